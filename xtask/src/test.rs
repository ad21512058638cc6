//! `cargo xtask test`: each tier with what it needs, and a table of what came of it.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binaries::Binaries,
    cargo::{cargo, need_root, output, root},
    hazards,
    tally::{Outcome, count, print},
    vm,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only one tier; if it is left out, all of them.
    tier: Option<Tier>,
    /// With `vm`, or alone: only these kernels, such as 5.10,7.
    #[arg(long, value_name = "KERNEL", value_delimiter = ',')]
    vm: Vec<String>,
    /// Only these targets of `tests/kernel` and `tests/e2e`, such as flip,crash.
    #[arg(long, value_name = "TARGET", value_delimiter = ',')]
    target: Vec<String>,
    /// With `vm`: write what passed on which kernel to a file, as a table in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    hazards: hazards::Args,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tier {
    /// Everything that needs neither root nor a kernel feature.
    Unit,
    /// One promise each, on this machine's kernel. Needs root.
    Kernel,
    /// Real servers under load. Needs root.
    E2e,
    /// The kernel tests on other kernels, in virtual machines.
    Vm,
    /// What synflip is known to do worse than plain SO_REUSEPORT. Needs root.
    Hazards,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let only = match (args.tier, args.vm.as_slice()) {
        (None, [_, ..]) => Some(Tier::Vm),
        (tier, _) => tier,
    };
    let about_machines = !args.vm.is_empty() || args.markdown.is_some();
    if about_machines && only.is_some_and(|only| only != Tier::Vm) {
        eprintln!("error: --vm and --markdown are about the tier vm: `cargo xtask test vm …`");
        return Ok(ExitCode::from(2));
    }
    if only == Some(Tier::Hazards) {
        return hazards::run(&args.hazards);
    }
    if args.hazards.any() {
        eprintln!(
            "error: --against and --only are about the tier hazards: `cargo xtask test hazards …`"
        );
        return Ok(ExitCode::from(2));
    }
    let wanted = |tier| only.is_none_or(|only| only == tier);
    // Said before anything is built.
    if wanted(Tier::Kernel) || wanted(Tier::E2e) {
        need_root("kernel and e2e tests (unlike `cargo xtask test unit`)")?;
    }
    let host_may_lack = vm::Kernels::load()?.host_may_lack();
    let mut ran = Vec::new();
    if wanted(Tier::Unit) {
        let workspace = ["test", "--workspace", "--exclude", "synflip-tests"];
        let flags = ["--locked", "--no-fail-fast"];
        ran.push(test("unit", cargo().args(workspace).args(flags))?);
        let harness = ["test", "-p", "synflip-tests", "--lib"];
        ran.push(test("unit harness", cargo().args(harness).args(flags))?);
    }
    let mut targets = Vec::new();
    for (tier, source) in [(Tier::Kernel, "kernel"), (Tier::E2e, "e2e")] {
        if wanted(tier) {
            let found = targets_in(source, &args.target)?;
            targets.extend(found.into_iter().map(|target| (source, target)));
        }
    }
    if !targets.is_empty() {
        let names: Vec<String> = targets.iter().map(|(_, target)| target.clone()).collect();
        let programs = Binaries::build(&names)?;
        for (source, target) in &targets {
            let built = programs.tests.iter().find(|(name, _)| name == target);
            let (_, file) = built.with_context(|| format!("cargo has not built {target}"))?;
            // One target after the other, and one test after the other: they time the kernel.
            let mut command = Command::new(file);
            command
                .args(["--test-threads=1", "--nocapture"])
                .current_dir(root().join("tests"))
                .env("SYNFLIP_BIN_DIR", programs.dir()?)
                .env("SYNFLIP_KERNEL_LACKS", &host_may_lack);
            ran.push(test(&format!("{source} {target}"), &mut command)?);
        }
    }
    if wanted(Tier::Vm) {
        let targets = targets_in("kernel", &args.target)?;
        ensure!(
            !targets.is_empty(),
            "tests/kernel has no target {}",
            args.target.join(", ")
        );
        ran.extend(vm::matrix(&args.vm, &targets, args.markdown.as_deref())?);
    }
    print(&ran);
    Ok(if ran.iter().all(|outcome| outcome.success) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs tests, passing on and counting what they print.
fn test(name: &str, command: &mut Command) -> Result<Outcome> {
    println!("== {name}");
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let errors = thread::spawn(move || pass_on(stderr, io::stderr()));
    let mut lines = pass_on(stdout, io::stdout()).context("cannot read what the tests print")?;
    let rest = errors
        .join()
        .ok()
        .context("the reader of stderr panicked")?;
    lines.extend(rest.context("cannot read what the tests print")?);
    let success = child
        .wait()
        .with_context(|| format!("cannot wait for {name}"))?
        .success();
    Ok(Outcome {
        name: name.to_owned(),
        counts: count(&lines),
        success,
        took: start.elapsed(),
    })
}

fn pass_on(from: impl Read, mut to: impl Write) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(to, "{line}")?;
        lines.push(line);
    }
    Ok(lines)
}

/// The test targets whose source is in a directory of `tests/`; with names, only those of them.
fn targets_in(dir: &str, only: &[String]) -> Result<Vec<String>> {
    let out = output(cargo().args(["metadata", "--no-deps", "--format-version=1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&out)?;
    let array = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let package = array(&metadata["packages"])
        .into_iter()
        .find(|p| p["name"] == "synflip-tests");
    let package = package.context("the workspace has no package synflip-tests")?;
    let in_dir = |source: &str| {
        Path::new(source).parent().and_then(Path::file_name) == Some(&OsString::from(dir))
    };
    let mut names: Vec<String> = array(&package["targets"])
        .iter()
        .filter(|target| target["kind"][0] == "test")
        .filter(|target| target["src_path"].as_str().is_some_and(in_dir))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.retain(|name| only.is_empty() || only.contains(name));
    names.sort();
    Ok(names)
}
