//! Everything that machines need, provided; and a machine made of it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use synflip_exchange::{Job, Plan, State};

use crate::{
    binaries::{Binaries, TestProgram},
    cargo::target_dir,
    guard::Guard,
    vm::{
        console::{Heard, Story},
        initramfs::{self, Archive},
        kernels::Kernels,
        machine::follow,
        modules,
        packages::Kernel,
        qemu::{Accel, Qemu},
        systemd::Userland,
    },
};

/// A machine to boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) system: System<'a>,
    /// What it says is kept under this name.
    pub(crate) name: &'a str,
}

/// What is in a machine, besides our programs and its plan.
#[derive(Clone, Copy, Debug)]
pub(crate) enum System<'a> {
    /// Nothing: `synflip-init` is PID 1.
    Small,
    /// systemd, of which `synflip-init` is a service.
    Systemd(&'a Userland),
}

/// QEMU, the kernels that were asked for, and what is to run on them.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) kernels: Kernels,
    /// Those that were asked for.
    pub(crate) machines: Vec<Kernel>,
    /// Where everything is kept.
    pub(crate) dir: PathBuf,
    pub(crate) accel: Accel,
    qemu: Qemu,
    pub(crate) programs: Binaries,
    /// Two runs would overwrite each other's programs and logs.
    _lock: File,
    _guard: Guard,
}

impl Lab {
    /// Provides all of it: what is missing is downloaded and built.
    pub(crate) fn open(names: &[String], tests: &[TestProgram]) -> Result<Self> {
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
        let mut lab = Self {
            kernels,
            machines,
            dir,
            accel: Accel::Tcg,
            qemu,
            programs,
            _lock: lock,
            _guard: Guard::start()?,
        };
        lab.accel = lab.accelerator()?;
        Ok(lab)
    }

    /// Boots a machine, runs the jobs, and passes on what they print and how they end. If that
    /// cannot be done, it is the trouble of this machine: others have theirs.
    pub(crate) fn boot(
        &self,
        machine: Machine<'_>,
        jobs: Vec<Job>,
        at_a_time: usize,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> (Story, Duration) {
        let start = Instant::now();
        let plan = Plan {
            env: self.environment(machine.kernel),
            jobs,
            at_a_time,
            ..Plan::default()
        };
        let story = self.machine(machine, self.accel, plan, BOOT, hear);
        let story = story.unwrap_or_else(|error| Story::untold(&error));
        (story, start.elapsed())
    }

    /// KVM if it runs all of these kernels to their end, which an open `/dev/kvm` does not promise:
    /// in a virtual machine it may know only some of the processor's instructions.
    fn accelerator(&self) -> Result<Accel> {
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if kvm.is_err() {
            return Ok(Accel::Tcg);
        }
        // The newest first: it uses most of the processor, and says at once what KVM lacks.
        for kernel in self.machines.iter().rev() {
            let plan = Plan::default();
            let machine = Machine {
                kernel,
                system: System::Small,
                name: "kvm",
            };
            let story = self.machine(machine, Accel::Kvm, plan, PROBE, &mut |_| {})?;
            if story.progress.state == State::Done && story.troubles.is_empty() {
                continue;
            }
            // What it said last is why: KVM's own error, or the kernel's.
            let why = story.last.back().map_or("it said nothing", String::as_str);
            let name = &kernel.row.name;
            eprintln!("emulated, because KVM does not run kernel {name} here: {why}");
            return Ok(Accel::Tcg);
        }
        Ok(Accel::Kvm)
    }

    fn machine(
        &self,
        machine: Machine<'_>,
        accel: Accel,
        mut plan: Plan,
        boot: Duration,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<Story> {
        let Machine {
            kernel,
            system,
            name,
        } = machine;
        let dir = self.dir.join(&kernel.row.name).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let initramfs = dir.join("initramfs.cpio");
        let mut archive = Archive::create(&initramfs)?;
        let init = match system {
            System::Small => {
                archive.directory(initramfs::PROGRAMS)?;
                "/init"
            }
            System::Systemd(userland) => {
                userland.archive(&mut archive)?;
                INIT_SERVICE
            }
        };
        for dir in [initramfs::TESTS, initramfs::MODULES] {
            archive.directory(dir)?;
        }
        let mut add = |path: &str, file: &Path| {
            let content =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            archive.file(path, &content)
        };
        add(init, &self.programs.init)?;
        if !plan.jobs.is_empty() {
            for (name, file) in &self.programs.programs {
                add(&format!("{}/{name}", initramfs::PROGRAMS), file)?;
            }
        }
        for (name, file) in &self.programs.tests {
            let path = format!("{}/{name}", initramfs::TESTS);
            if plan.jobs.iter().any(|job| job.program == Path::new(&path)) {
                add(&path, file)?;
            }
        }
        for module in modules::load(&kernel.modules, &self.kernels.modules)? {
            let path = format!("{}/{}.ko", initramfs::MODULES, module.name);
            archive.file(&path, &module.image)?;
            plan.modules.push(path.into());
        }
        archive.file("/plan.json", &serde_json::to_vec(&plan)?)?;
        archive.finish()?;
        let mut command = self.qemu.machine(accel, &kernel.image, &initramfs);
        follow(&mut command, &plan, boot, &dir.join("serial.log"), hear)
            .with_context(|| format!("kernel {} in QEMU {}", kernel.row.name, self.qemu.version))
    }

    /// What the tests are told.
    fn environment(&self, kernel: &Kernel) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("PATH", initramfs::PROGRAMS.to_owned()),
            ("HOME", "/tmp".to_owned()),
            ("CI", "true".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
            ("SYNFLIP_BIN_DIR", initramfs::PROGRAMS.to_owned()),
            ("SYNFLIP_KERNEL", kernel.row.name.clone()),
            ("SYNFLIP_KERNEL_LACKS", kernel.row.lacks.join(",")),
        ]);
        if self.accel == Accel::Tcg {
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

/// What `synflip-tests.service` runs.
const INIT_SERVICE: &str = "/bin/synflip-init";
/// To the first word of PID 1. An emulated machine takes a few seconds, if it has a processor.
const BOOT: Duration = Duration::from_secs(120);
/// The same with KVM, which takes one second if it works.
const PROBE: Duration = Duration::from_secs(10);
