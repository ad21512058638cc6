//! `cargo xtask test`: each tier with what it needs, and a table of what came of it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use crate::{
    binaries::{Binaries, TestProgram},
    cargo::{cargo, need_root},
    carry_over, hazards, host,
    tally::{Counts, Outcome, Report},
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
    /// What 0.1.0 has begun, under load. Needs root, and that release's commit.
    CarryOver,
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
    if only == Some(Tier::Unit) && !args.only.is_empty() {
        eprintln!("error: --only is not about the tier unit: `cargo test --workspace PATTERN`");
        return Ok(ExitCode::from(2));
    }
    let all = Tier::value_variants().iter();
    let tiers = all.filter(|tier| only.is_none_or(|only| only == **tier));
    // Said before anything is built.
    if tiers.clone().any(|tier| tier.needs_root()) {
        need_root("kernel, hazards, carry-over and e2e tests (unlike `cargo xtask test unit`)")?;
    }
    let mut report = Report::default();
    for tier in tiers {
        report.add(match tier.run(args) {
            Ok(of_tier) => of_tier,
            // The other tiers have something to tell nevertheless.
            Err(error) if only.is_none() => Report::broken(tier.name(), &error),
            Err(error) => return Err(error),
        });
    }
    // That nothing was run is no success.
    ensure!(
        !report.outcomes.is_empty(),
        "no test is called {}",
        args.only.join(" or ")
    );
    Ok(report.print())
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Hazards => "hazards",
            Self::CarryOver => "carry-over",
            Self::E2e => "e2e",
            Self::Vm => "vm",
            Self::Systemd => "systemd",
        }
    }

    fn needs_root(self) -> bool {
        matches!(
            self,
            Self::Kernel | Self::Hazards | Self::CarryOver | Self::E2e
        )
    }

    fn run(self, args: &Args) -> Result<Report> {
        println!("== {}", self.name());
        match self {
            // A pattern is for the tests that run for themselves.
            Self::Unit if !args.only.is_empty() => Ok(Report::default()),
            Self::Unit => unit(),
            Self::Kernel => on_host(TestProgram::Kernel, &args.only),
            Self::Hazards => hazards::run(args.against.as_deref(), &args.only),
            Self::CarryOver => carry_over::run(&args.only),
            Self::E2e => on_host(TestProgram::E2e, &args.only),
            Self::Vm => vm::matrix(&args.vm, &args.only, args.markdown.as_deref()),
            Self::Systemd => vm::with_systemd(&args.only),
        }
    }
}

fn on_host(program: TestProgram, only: &[String]) -> Result<Report> {
    let built = Binaries::build(&[program])?;
    let dir = built.dir()?.to_str().context("a path is not UTF-8")?;
    let env = [("SYNFLIP_BIN_DIR", dir)];
    let tests = host::run(built.test(program)?, &env, only, at_a_time(program))?;
    Ok(Report::groups(program.name(), &tests))
}

/// How many tests to run beside each other. Those of the kernel and the hazards mostly wait, for
/// the kernel's timers or for a line with a round trip, and so do those of 0.1.0; the end-to-end
/// tests are load, and those of systemd share its units.
pub(crate) fn at_a_time(program: TestProgram) -> usize {
    match program {
        TestProgram::Kernel | TestProgram::Hazards | TestProgram::CarryOver => {
            2 * thread::available_parallelism().map_or(1, usize::from)
        }
        TestProgram::E2e | TestProgram::Systemd => 1,
    }
}

/// Runs `cargo test`, passing on and counting what it prints.
fn unit() -> Result<Report> {
    let start = Instant::now();
    // Targets that need root say `test = false`.
    let mut child = cargo()
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
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
    Ok(Report::from(Outcome {
        name: "unit".to_owned(),
        counts,
        success: status.success(),
        seconds: start.elapsed().as_secs_f64(),
    }))
}
