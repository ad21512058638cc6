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
    let shares = shares(targets);
    let numbered = || (1..).zip(&shares);
    let machines: Vec<_> = lab
        .machines
        .iter()
        .flat_map(|kernel| numbered().map(move |(number, share)| (kernel, number, share)))
        .collect();
    let parts = on_each(&machines, |(kernel, number, share)| {
        let name = &kernel.row.name;
        let (release, version) = (&kernel.origin.release, kernel.origin.version());
        println!("== vm {name}: Linux {release} ({version})");
        let mut show = |line: &str| println!("[{name}] {line}");
        let jobs = share.iter().map(job).collect();
        let ran = lab.boot(kernel, &format!("tests-{number}"), jobs, &mut show)?;
        let part = OnKernel::judge(kernel, ran.accel.name(), share, ran.story, ran.took);
        for failure in part.failures() {
            println!("FAILED {failure}");
        }
        Ok(part)
    })?;
    let mut results: Vec<OnKernel> = Vec::new();
    for part in parts {
        match results.last_mut() {
            Some(whole) if whole.kernel == part.kernel => whole.join(part),
            _ => results.push(part),
        }
    }
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

/// The targets, shared out between a kernel's machines: so all processors have something to do
/// until the end, whatever the number of kernels.
fn shares(targets: &[String]) -> Vec<Vec<String>> {
    let share = |first| {
        targets
            .iter()
            .skip(first)
            .step_by(SHARES)
            .cloned()
            .collect()
    };
    (0..SHARES.min(targets.len())).map(share).collect()
}

/// Runs something in several machines, as many at once as this one has processors: a machine
/// mostly waits, for the kernel's timers or for the other of its own two processors.
///
/// The results are in the order of the machines.
fn on_each<M: Sync, T: Send>(
    machines: &[M],
    run: impl Fn(&M) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(machines.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    let Some(machine) = machines.get(number) else {
                        break;
                    };
                    let result = run(machine);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

const SHARES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_one_share() {
        let targets = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(shares(&targets), [vec!["a", "c"], vec!["b"]]);
        assert_eq!(shares(&targets[..1]), [["a"]]);
        assert!(shares(&[]).is_empty());
    }

    #[test]
    fn results_are_in_the_order_of_the_machines() {
        let doubled = on_each(&[3, 1, 2], |number| Ok(number * 2)).unwrap();
        assert_eq!(doubled, [6, 2, 4]);
    }
}
