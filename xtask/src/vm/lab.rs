//! Everything that machines need, provided; and a machine made of it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binaries::Binaries,
    cargo::target_dir,
    vm::{
        console::{Phase, Story},
        initramfs::{self, Archive},
        kernels::Kernels,
        machine::{Job, Plan, follow},
        modules,
        packages::Kernel,
        qemu::{Accel, Qemu},
    },
};

/// QEMU, the kernels that were asked for, and what is to run on them.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) kernels: Kernels,
    /// Those that were asked for.
    pub(crate) machines: Vec<Kernel>,
    /// Where everything is kept.
    pub(crate) dir: PathBuf,
    qemu: Qemu,
    programs: Binaries,
    /// Two runs would overwrite each other's programs and logs.
    _lock: File,
}

/// A machine that has run.
#[derive(Debug)]
pub(crate) struct Booted {
    pub(crate) story: Story,
    pub(crate) accel: Accel,
    pub(crate) took: Duration,
}

impl Lab {
    /// Provides all of it: what is missing is downloaded and built.
    pub(crate) fn open(names: &[String], tests: &[String]) -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the machines are x86-64, and their programs are built on x86-64 only"
        );
        let kernels = Kernels::load()?;
        let rows = kernels.select(names)?;
        let dir = target_dir()?.join("vm");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let lock = lock(&dir.join("lock"))?;
        let qemu = Qemu::provide(&dir)?;
        let machines = rows
            .iter()
            .map(|row| Kernel::provide(row, &dir))
            .collect::<Result<_>>()?;
        let programs = Binaries::build(tests)?;
        Ok(Self {
            kernels,
            machines,
            dir,
            qemu,
            programs,
            _lock: lock,
        })
    }

    /// Boots a kernel, runs the jobs, and shows what they print; what the machine says is kept
    /// under its name.
    pub(crate) fn boot(
        &self,
        kernel: &Kernel,
        name: &str,
        jobs: Vec<Job>,
        show: &mut dyn FnMut(&str),
    ) -> Result<Booted> {
        let dir = self.dir.join(&kernel.row.name).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let accel = self.accelerator(kernel, &dir)?;
        let start = Instant::now();
        let story = self.machine(kernel, accel, jobs, BOOT, &dir.join("serial.log"), show)?;
        Ok(Booted {
            story,
            accel,
            took: start.elapsed(),
        })
    }

    /// KVM if it runs this kernel to its end, which an open `/dev/kvm` does not promise: in a
    /// virtual machine it may know only some of the processor's instructions.
    fn accelerator(&self, kernel: &Kernel, dir: &Path) -> Result<Accel> {
        if OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Accel::Tcg);
        }
        let log = dir.join("kvm.log");
        let story = self.machine(kernel, Accel::Kvm, Vec::new(), PROBE, &log, &mut |_| {})?;
        if story.phase == Phase::Over && story.troubles.is_empty() {
            return Ok(Accel::Kvm);
        }
        // What it said last is why: KVM's own error, or the kernel's.
        let why = story.last.back().map_or("it said nothing", String::as_str);
        let name = &kernel.row.name;
        eprintln!("kernel {name}: emulated, because KVM does not run it here: {why}");
        Ok(Accel::Tcg)
    }

    fn machine(
        &self,
        kernel: &Kernel,
        accel: Accel,
        jobs: Vec<Job>,
        boot: Duration,
        log: &Path,
        show: &mut dyn FnMut(&str),
    ) -> Result<Story> {
        let initramfs = log.with_file_name("initramfs.cpio");
        let mut archive = Archive::create(&initramfs)?;
        let mut add = |path: &str, file: &Path| {
            let content =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            archive.file(path, &content)
        };
        add("/init", &self.programs.init)?;
        if !jobs.is_empty() {
            for (name, file) in &self.programs.programs {
                add(&format!("{}/{name}", initramfs::PROGRAMS), file)?;
            }
        }
        let tests = self.programs.tests.iter();
        for (name, file) in tests.filter(|(name, _)| jobs.iter().any(|job| job.name == *name)) {
            add(&format!("{}/{name}", initramfs::TESTS), file)?;
        }
        let mut plan = Plan {
            env: self.environment(kernel, accel),
            jobs,
            ..Plan::default()
        };
        for module in modules::load(&kernel.modules, &self.kernels.modules)? {
            let path = format!("{}/{}.ko", initramfs::MODULES, module.name);
            archive.file(&path, &module.image)?;
            plan.modules.push(path);
        }
        archive.file("/plan.json", &serde_json::to_vec(&plan)?)?;
        archive.finish()?;
        let mut command = self.qemu.machine(accel, &kernel.image, &initramfs);
        follow(&mut command, &plan, boot, log, show)
            .with_context(|| format!("kernel {} in QEMU {}", kernel.row.name, self.qemu.version))
    }

    /// What the tests are told.
    fn environment(&self, kernel: &Kernel, accel: Accel) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("PATH", initramfs::PROGRAMS.to_owned()),
            ("HOME", "/tmp".to_owned()),
            ("CI", "true".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
            ("SYNFLIP_BIN_DIR", initramfs::PROGRAMS.to_owned()),
            ("SYNFLIP_KERNEL", kernel.row.name.clone()),
            ("SYNFLIP_KERNEL_LACKS", kernel.row.lacks.join(",")),
        ]);
        if accel == Accel::Tcg {
            all.insert("SYNFLIP_SLOW", "1".to_owned());
        }
        // To have a failure again.
        if let Ok(seed) = env::var("SYNFLIP_SEED") {
            all.insert("SYNFLIP_SEED", seed);
        }
        all.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn lock(path: &Path) -> Result<File> {
    let failed = || format!("cannot lock {}", path.display());
    let file = File::create(path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another run with {}", path.display());
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
    }
    file.lock().with_context(failed)?;
    Ok(file)
}

/// To the first word of PID 1. An emulated machine takes a few seconds, if it has a processor.
const BOOT: Duration = Duration::from_secs(120);
/// The same with KVM, which takes one second if it works.
const PROBE: Duration = Duration::from_secs(20);
