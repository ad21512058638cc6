//! Other kernels: the kernel tests, and programs such as the demonstration, in virtual machines.
//!
//! A machine is a kernel of Debian, an initramfs with [`synflip-init`](../../vm-images/init) and
//! this workspace's programs, and QEMU. It has no disk and no network but its own loopback.
//!
//! * [`kernels`]: which kernels there are, and what they are declared to lack
//! * [`packages`], [`modules`]: their files
//! * [`initramfs`]: what runs inside
//! * [`qemu`], [`machine`], [`console`]: a machine, followed from its start to its end
//! * [`report`], [`tables`]: what came of it
//! * [`systemd`]: a machine whose PID 1 is systemd
//! * [`single`]: one program in each machine, instead of the tests

mod console;
mod initramfs;
mod kernels;
mod lab;
mod machine;
mod modules;
mod packages;
mod qemu;
mod report;
mod single;
mod systemd;
mod tables;

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, bail};
use synflip_exchange::each;

use crate::{
    binaries::TestProgram,
    cases::TestRun,
    suite,
    tally::{Outcome, Report},
};
use console::Heard;
use lab::{Lab, Machine, System};
use packages::Kernel;
use report::OnKernel;
use systemd::Userland;

pub(crate) use kernels::Kernels;
pub(crate) use single::run_in;

/// Runs the kernel tests on the named kernels, on all for none; with patterns, those whose name
/// contains one of them.
pub(crate) fn matrix(names: &[String], only: &[String], markdown: Option<&Path>) -> Result<Report> {
    let lab = Lab::open(names, &[TestProgram::Kernel])?;
    let tests = suite::list(lab.programs.test(TestProgram::Kernel)?, only)?;
    if only.is_empty() {
        lab.kernels.ensure_alone_exist(&tests)?;
    }
    if tests.is_empty() {
        return Ok(Report::default());
    }
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let results = each(&lab.machines, at_once, |kernel| {
        let program = TestProgram::Kernel;
        run_tests(&lab, kernel, System::Small, program, &tests, AT_A_TIME)
    });
    let all = results.iter().flat_map(|on| &on.tests);
    suite::remember(all.filter_map(TestRun::time))?;
    println!("\n{}", tables::matrix(&results));
    let record = lab.dir.join("results.json");
    write(&record, &serde_json::to_string_pretty(&results)?)?;
    println!(
        "details: {}; what each machine said: serial.log in a directory each beside it",
        record.display()
    );
    if let Some(path) = markdown {
        write(path, &tables::markdown(&results, &lab.kernels))?;
    }
    Ok(Report {
        outcomes: results.iter().map(OnKernel::outcome).collect(),
        failures: results.iter().flat_map(OnKernel::failures).collect(),
    })
}

/// Runs the tests that need systemd, in the machine that has it; with patterns, those whose name
/// contains one of them.
pub(crate) fn with_systemd(only: &[String]) -> Result<Report> {
    let lab = Lab::open(&[systemd::KERNEL.to_owned()], &[TestProgram::Systemd])?;
    let [kernel] = lab.machines.as_slice() else {
        bail!("more than one kernel is called {}", systemd::KERNEL);
    };
    let userland = Userland::provide(&kernel.row.suite, &lab.dir)?;
    println!("== systemd {}", userland.version);
    let tests = suite::list(lab.programs.test(TestProgram::Systemd)?, only)?;
    if tests.is_empty() {
        return Ok(Report::default());
    }
    let system = System::Systemd(&userland);
    // They share the units.
    let result = run_tests(&lab, kernel, system, TestProgram::Systemd, &tests, 1);
    suite::remember(result.tests.iter().filter_map(TestRun::time))?;
    let outcome = Outcome {
        name: "systemd".to_owned(),
        ..result.outcome()
    };
    Ok(Report {
        outcomes: vec![outcome],
        failures: result.failures(),
    })
}

/// Boots a kernel, runs tests of a program on it, so many at a time, and shows what comes of them.
fn run_tests(
    lab: &Lab,
    kernel: &Kernel,
    system: System<'_>,
    program: TestProgram,
    tests: &[String],
    at_a_time: usize,
) -> OnKernel {
    let name = &kernel.row.name;
    let (release, version) = (&kernel.origin.release, kernel.origin.version());
    println!("== vm {name}: Linux {release} ({version})");
    let path = Path::new(initramfs::TESTS).join(program.name());
    let jobs = suite::jobs(tests, &path, &lab.kernels);
    let mut hear = |heard: Heard<'_>| {
        if let Heard::Ended(ran, ended) = heard {
            let lines = ran.lines.clone();
            let test = TestRun::judge(ran.name.clone(), lines, ended, &kernel.row.lacks);
            println!("[{name}] {}", test.shown().join(&format!("\n[{name}] ")));
        }
    };
    let machine = Machine {
        kernel,
        system,
        name: match system {
            System::Small => "tests",
            System::Systemd(_) => "systemd",
        },
    };
    let (story, took) = lab.boot(machine, jobs, at_a_time, &mut hear);
    let accelerator = lab.accel.name();
    OnKernel::judge(kernel, accelerator, tests, story, took)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Tests beside each other in a machine, which has two processors.
const AT_A_TIME: usize = 2;
