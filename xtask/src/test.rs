//! `cargo xtask test`: each tier with what it needs, and a table of what came of it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binaries::{Binaries, TestProgram},
    cargo::{cargo, need_root},
    cases::TestRun,
    hazards, host,
    tally::{Counts, Outcome, print},
    vm,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only one tier; if it is left out, all of them.
    tier: Option<Tier>,
    /// With `vm`, or alone: only these kernels, such as 5.10,7.
    #[arg(long, value_name = "KERNEL", value_delimiter = ',')]
    vm: Vec<String>,
    /// Only tests whose name contains one of these, such as half_open,death::
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// With `vm`: write what passed on which kernel to a file, as a table in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// With `hazards`: run the programs of this commit, in which each hazard has to be seen.
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tier {
    /// Everything that needs neither root nor a kernel feature.
    Unit,
    /// One promise each, on this machine's kernel. Needs root.
    Kernel,
    /// What is known to be worse than without synflip. Needs root.
    Hazards,
    /// Real servers under load. Needs root.
    E2e,
    /// The kernel tests on other kernels, in virtual machines.
    Vm,
    /// The product as units of systemd, in a virtual machine.
    Systemd,
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
    if args.against.is_some() && only != Some(Tier::Hazards) {
        eprintln!("error: --against is about the tier hazards: `cargo xtask test hazards …`");
        return Ok(ExitCode::from(2));
    }
    let wanted = |tier| only.is_none_or(|only| only == tier);
    // Said before anything is built.
    if [Tier::Kernel, Tier::Hazards, Tier::E2e]
        .into_iter()
        .any(wanted)
    {
        need_root("kernel, hazards and e2e tests (unlike `cargo xtask test unit`)")?;
    }
    let mut ran = Vec::new();
    let mut failures = Vec::new();
    // A pattern is for the tests that run for themselves.
    if wanted(Tier::Unit) && args.only.is_empty() {
        // Targets that need root say `test = false`.
        let workspace = ["test", "--workspace", "--locked", "--no-fail-fast"];
        ran.push(unit(cargo().args(workspace))?);
    }
    let on_host: Vec<TestProgram> = [
        (Tier::Kernel, TestProgram::Kernel),
        (Tier::E2e, TestProgram::E2e),
    ]
    .into_iter()
    .filter_map(|(tier, program)| wanted(tier).then_some(program))
    .collect();
    if !on_host.is_empty() {
        let programs = Binaries::build(&on_host)?;
        let dir = programs.dir()?.to_str().context("a path is not UTF-8")?;
        for program in on_host {
            println!("== {}", program.name());
            let file = programs.test(program)?;
            let env = [("SYNFLIP_BIN_DIR", dir)];
            let tests = host::run(file, &env, &args.only, at_a_time(program))?;
            ran.extend(Outcome::groups(program.name(), &tests));
            let failed = tests.into_iter().filter(TestRun::failed);
            failures.extend(failed.flat_map(|test| test.shown()));
        }
    }
    if wanted(Tier::Hazards) {
        println!("== hazards");
        let tests = hazards::run(args.against.as_deref(), &args.only)?;
        ran.extend(Outcome::whole("hazards", &tests));
        let failed = tests.into_iter().filter(TestRun::failed);
        failures.extend(failed.flat_map(|test| test.shown()));
    }
    if wanted(Tier::Vm) {
        let (outcomes, failed) = vm::matrix(&args.vm, &args.only, args.markdown.as_deref())?;
        ran.extend(outcomes);
        failures.extend(failed);
    }
    if wanted(Tier::Systemd) {
        let (outcomes, failed) = vm::with_systemd(&args.only)?;
        ran.extend(outcomes);
        failures.extend(failed);
    }
    // That nothing was run is no success.
    ensure!(
        !ran.is_empty(),
        "no test is called {}",
        args.only.join(" or ")
    );
    if !failures.is_empty() {
        println!("\n== failures\n{}", failures.join("\n"));
    }
    print(&ran);
    Ok(if ran.iter().all(|outcome| outcome.success) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many tests to run beside each other. Those of the kernel and the hazards mostly wait, for
/// the kernel's timers or for a line with a round trip; the end-to-end tests are load, and those
/// of systemd share its units.
pub(crate) fn at_a_time(program: TestProgram) -> usize {
    match program {
        TestProgram::Kernel | TestProgram::Hazards => {
            2 * thread::available_parallelism().map_or(1, usize::from)
        }
        TestProgram::E2e | TestProgram::Systemd => 1,
    }
}

/// Runs `cargo test`, passing on and counting what it prints.
fn unit(command: &mut Command) -> Result<Outcome> {
    println!("== unit");
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no stdout")?).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.read(&line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok(Outcome {
        name: "unit".to_owned(),
        counts,
        success: status.success(),
        seconds: start.elapsed().as_secs_f64(),
    })
}
