//! Other kernels: the kernel tests, and programs such as the demonstration, in virtual machines.
//!
//! A machine is a kernel of Debian, an initramfs with [`synflip-init`](../../vm-images/init) and
//! this workspace's programs, and QEMU. It has no disk and no network but its own loopback.
//!
//! * [`kernels`]: which kernels there are, and what they are declared to lack
//! * [`packages`], [`modules`]: their files
//! * [`initramfs`]: what runs inside
//! * [`qemu`], [`machine`], [`console`]: a machine, followed from its start to its end
//! * [`cases`], [`report`], [`tables`]: what came of it
//! * [`single`]: one program in each machine, instead of the tests

mod cases;
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
mod tables;

use std::{
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, Result};

use crate::tally::Outcome;
use lab::Lab;
use machine::Job;
use packages::Kernel;
use report::OnKernel;

pub(crate) use kernels::Kernels;
pub(crate) use single::run_in;

/// Runs the targets of `tests/kernel` on the named kernels; on all for none.
pub(crate) fn matrix(
    names: &[String],
    targets: &[String],
    markdown: Option<&Path>,
) -> Result<Vec<Outcome>> {
    let lab = Lab::open(names, targets)?;
    let job = |target: &String| Job {
        name: target.clone(),
        program: format!("{}/{target}", initramfs::TESTS),
        args: ["--test-threads=1", "--nocapture"]
            .map(str::to_owned)
            .into(),
        deadline_s: lab.kernels.deadline_s(target),
        output: None,
    };
    let jobs: Vec<Job> = targets.iter().map(job).collect();
    let results = on_each(&lab.machines, |kernel| {
        let name = &kernel.row.name;
        let (release, version) = (&kernel.origin.release, kernel.origin.version());
        println!("== vm {name}: Linux {release} ({version})");
        let mut show = |line: &str| println!("[{name}] {line}");
        let ran = lab.boot(kernel, jobs.clone(), &mut show)?;
        let result = OnKernel::judge(kernel, ran.accel.name(), targets, ran.story, ran.took);
        for failure in result.failures() {
            println!("FAILED {failure}");
        }
        Ok(result)
    })?;
    println!("\n{}", tables::matrix(&results));
    for failure in results.iter().flat_map(OnKernel::failures) {
        println!("FAILED {failure}");
    }
    let record = lab.dir.join("results.json");
    write(&record, &serde_json::to_string_pretty(&results)?)?;
    println!(
        "details: {}; what each machine said: serial.log in a directory each beside it",
        record.display()
    );
    if let Some(path) = markdown {
        write(path, &tables::markdown(&results, &lab.kernels))?;
    }
    Ok(results.iter().flat_map(OnKernel::outcomes).collect())
}

/// Runs something on several kernels, as many at once as this machine has processors: a machine
/// mostly waits, for the kernel's timers or for the other of its own two processors.
///
/// The results are in the order of the kernels.
fn on_each<T: Send>(
    kernels: &[Kernel],
    run: impl Fn(&Kernel) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(kernels.len()) {
            scope.spawn(|| {
                while let Some(kernel) = kernels.get(next.fetch_add(1, Relaxed)) {
                    let result = run(kernel);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((&kernel.row.name, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let place = |name: &String| kernels.iter().position(|kernel| kernel.row.name == *name);
    results.sort_by_key(|(name, _)| place(name));
    results.into_iter().map(|(_, result)| result).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
