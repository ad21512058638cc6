//! The emulator: one that is new enough, and how a machine is described to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{apt::PrivateApt, cargo::quietly};

/// A QEMU that runs all kernels.
#[derive(Debug)]
pub(crate) struct Qemu {
    program: PathBuf,
    /// Where it was unpacked, if it is not installed.
    root: Option<PathBuf>,
    /// What it calls itself.
    pub(crate) version: String,
}

/// What runs the instructions of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// Emulation: slow, and the same everywhere.
    Tcg,
    /// The processor itself.
    Kvm,
}

impl Accel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcg => "TCG",
            Self::Kvm => "KVM",
        }
    }
}

impl Qemu {
    /// The installed one, or one of Debian unpacked under a directory.
    ///
    /// Unpacked rather than installed: it takes no root, leaves the machine's own QEMU alone, and
    /// needs backports to be none of the machine's sources.
    pub(crate) fn provide(dir: &Path) -> Result<Self> {
        let found = match Self::at("qemu-system-x86_64".into(), None) {
            Ok(qemu) if qemu.is_new_enough() => return Ok(qemu),
            Ok(qemu) => format!("QEMU {} is installed, which is too old", qemu.version),
            Err(_) => "QEMU is not installed".to_owned(),
        };
        Self::unpacked(dir).with_context(|| {
            format!(
                "{found}: the machines need {OLDEST} or newer (7.2 mis-emulates Linux 6.12). \
                 Install it, on Debian 12 with `apt-get install -t bookworm-backports \
                 qemu-system-x86`"
            )
        })
    }

    fn unpacked(dir: &Path) -> Result<Self> {
        let codename = codename()?;
        let backports = format!("{codename}-backports");
        let root = dir.join("qemu").join(&codename);
        let program = root.join("usr/bin/qemu-system-x86_64");
        if let Ok(qemu) = Self::at(program.clone(), Some(root.clone()))
            && qemu.is_new_enough()
        {
            return Ok(qemu);
        }
        let apt_dir = dir.join("apt").join(format!("{codename}-and-backports"));
        let apt = PrivateApt::beside_the_machine(&[&codename, &backports], apt_dir)?;
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("cannot remove {}", root.display()))?;
        }
        eprintln!("fetching qemu-system-x86 of {backports}");
        apt.unpack_with_needs("qemu-system-x86", &backports, &root)?;
        let qemu = Self::at(program, Some(root))?;
        if !qemu.is_new_enough() {
            bail!("{backports} has only QEMU {}", qemu.version);
        }
        Ok(qemu)
    }

    fn at(program: PathBuf, root: Option<PathBuf>) -> Result<Self> {
        let mut qemu = Self {
            program,
            root,
            version: String::new(),
        };
        let said = quietly(qemu.command().arg("--version"))?;
        qemu.version = version(&said)
            .context("QEMU does not say its version")?
            .to_owned();
        Ok(qemu)
    }

    fn is_new_enough(&self) -> bool {
        let major = self.version.split('.').next();
        major
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major >= OLDEST)
    }

    /// A machine with two processors and two serial ports: the kernel's console on stderr, where
    /// QEMU's own errors are too, and PID 1's report on stdout.
    pub(crate) fn machine(&self, accel: Accel, kernel: &Path, initramfs: &Path) -> Command {
        let mut command = self.command();
        match accel {
            // A large cache of translated code: a kernel and ten test programs pass through it.
            Accel::Tcg => command.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]),
            Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        };
        command
            .args(["-machine", "q35", "-smp", "2", "-m", "2048"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-chardev", "file,id=console,path=/dev/stderr,append=on"])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", "file,id=report,path=/dev/stdout,append=on"])
            .args(["-serial", "chardev:report"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", KERNEL_ARGS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            let at = |path: &str| root.join(path).display().to_string();
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
                .map(at)
                .join(":");
            command
                .env("LD_LIBRARY_PATH", libraries)
                .env("QEMU_MODULE_DIR", at("usr/lib/x86_64-linux-gnu/qemu"))
                .args(["-L", &at("usr/share/qemu"), "-L", &at("usr/share/seabios")]);
        }
        command
    }
}

/// `QEMU emulator version 10.0.2 (Debian 1:10.0.2…)`
fn version(said: &str) -> Option<&str> {
    let (_, rest) = said.lines().next()?.split_once("version ")?;
    rest.split(' ').next()
}

/// The release of Debian that this machine runs, whose libraries an unpacked QEMU uses.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release names no release of Debian")?
        .trim_matches('"')
        .to_owned())
}

/// The first that emulates the debug exception as Linux 6.12 needs it is somewhere after 7.2.
const OLDEST: u32 = 8;

/// `loglevel=5`: warnings are shown, and looked for. After an oops or a stall a machine has
/// nothing more to say that can be believed: it panics, and with `panic=-1` ends. The times are
/// those of an emulator that shares two processors. `mitigations=off`: they cost an emulator most.
const KERNEL_ARGS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off \
    tsc=reliable rcupdate.rcu_cpu_stall_timeout=60 sysctl.kernel.panic_on_rcu_stall=1 \
    sysctl.kernel.watchdog_thresh=30 sysctl.kernel.softlockup_panic=1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_old_ones_refused() {
        let qemu = |said: &str| Qemu {
            program: PathBuf::new(),
            root: None,
            version: version(said).unwrap().to_owned(),
        };
        let new = qemu("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright");
        assert_eq!(new.version, "10.0.2");
        assert!(new.is_new_enough());
        assert!(!qemu("QEMU emulator version 7.2.22 (Debian 1:7.2)").is_new_enough());
        assert_eq!(version("something else"), None);
    }

    #[test]
    fn a_machine_names_its_accelerator() {
        let qemu = Qemu {
            program: "qemu".into(),
            root: None,
            version: "10".into(),
        };
        for (accel, name) in [
            (Accel::Tcg, "tcg,thread=multi,tb-size=512"),
            (Accel::Kvm, "kvm"),
        ] {
            let machine = qemu.machine(accel, Path::new("k"), Path::new("i"));
            let args: Vec<_> = machine.get_args().collect();
            assert!(
                args.windows(2).any(|two| two == ["-accel", name]),
                "{args:?}"
            );
        }
    }
}
