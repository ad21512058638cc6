//! Other kernels: the kernel tests and the demonstration in virtual machines.
//!
//! A machine is a kernel of Debian, an initramfs with [`synflip-init`](../../vm-images/init) and
//! this workspace's programs, and QEMU. It has no disk and no network but its own loopback.
//!
//! * [`kernels`]: which kernels there are, and what they are declared to lack
//! * [`packages`], [`modules`]: their files
//! * [`initramfs`]: what runs inside
//! * [`qemu`], [`machine`], [`console`]: a machine, followed from its start to its end
//! * [`cases`], [`report`], [`tables`]: what came of it

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
mod tables;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::tally::Outcome;
use lab::Lab;
use machine::Job;
use packages::Kernel;
use report::OnKernel;

pub(crate) use kernels::Kernels;

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

/// Runs the demonstration on the named kernels.
pub(crate) fn demonstrate(names: &[String], args: &[OsString]) -> Result<ExitCode> {
    let (args, json) = split_json(args)?;
    let lab = Lab::open(names, &[])?;
    let mut runs = Vec::new();
    let mut success = true;
    for kernel in &lab.machines {
        println!(
            "== vm {}: Linux {} ({})",
            kernel.row.name,
            kernel.origin.release,
            kernel.origin.version()
        );
        let output = "/tmp/run.json";
        let job = Job {
            name: DEMO.to_owned(),
            program: format!("{}/{DEMO}", initramfs::PROGRAMS),
            args: args
                .iter()
                .cloned()
                .chain(["--json".to_owned(), output.to_owned()])
                .collect(),
            deadline_s: lab.kernels.deadline_s("run"),
            output: Some(output.to_owned()),
        };
        let ran = lab.boot(kernel, vec![job], &mut |line| println!("{line}"))?;
        for trouble in &ran.story.troubles {
            eprintln!(
                "error: kernel {}: {}",
                kernel.row.name,
                trouble.join("\n    ")
            );
        }
        let (end, data) = match ran.story.jobs.first() {
            Some(job) => (job.end.as_deref(), job.data.as_str()),
            None => (None, ""),
        };
        success &= end == Some("ok") && ran.story.troubles.is_empty();
        let data = match serde_json::from_str(data) {
            Ok(data) => data,
            Err(_) if end != Some("ok") || args.iter().any(|arg| arg == "--help") => Value::Null,
            Err(error) => bail!("{DEMO} has written no JSON: {error}"),
        };
        runs.push((kernel.row.name.clone(), data));
    }
    if runs.len() > 1 {
        println!("\n{}", tables::runs(&runs));
    }
    if let Some(path) = json {
        let document = match runs.as_slice() {
            [(_, run)] => run.clone(),
            _ => Value::Object(runs.into_iter().collect::<Map<_, _>>()),
        };
        write(&path, &serde_json::to_string_pretty(&document)?)?;
    }
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The arguments without `--json FILE`: the file is this machine's, not the virtual one's.
fn split_json(args: &[OsString]) -> Result<(Vec<String>, Option<PathBuf>)> {
    let (mut rest, mut json) = (Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg
            .to_str()
            .with_context(|| format!("{} is not UTF-8", arg.display()))?;
        if text == "--json" {
            json = Some(args.next().context("--json needs a file")?.into());
        } else if let Some(file) = text.strip_prefix("--json=") {
            json = Some(file.into());
        } else {
            rest.push(text.to_owned());
        }
    }
    Ok((rest, json))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

const DEMO: &str = "synflip-run";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_file_stays_here() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        let (rest, json) =
            split_json(&args(&["--flips", "3", "--json", "a b", "--rtt=1ms"])).unwrap();
        assert_eq!(rest, ["--flips", "3", "--rtt=1ms"]);
        assert_eq!(json, Some("a b".into()));
        let (rest, json) = split_json(&args(&["--json=f"])).unwrap();
        assert_eq!((rest.len(), json), (0, Some("f".into())));
        assert!(split_json(&args(&["--json"])).is_err());
    }
}
