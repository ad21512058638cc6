//! `cargo xtask bench`: measurements.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{against, program::exec};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything if it is left out.
    name: Option<OsString>,
    /// steering: pairs of runs [default: 200].
    #[arg(long, value_name = "N")]
    pairs: Option<u32>,
    /// looks: established connections that are looked past [default: 100000].
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// steering: length of a run, in milliseconds [default: 500].
    #[arg(long, value_name = "MS")]
    millis: Option<u32>,
    /// flip: flips of each kind [default: 20; 100 with --against].
    #[arg(long, value_name = "N")]
    flips: Option<u32>,
    /// flip: beside those of another commit, whose programs are built first.
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// idle: how long to look [default: 60].
    #[arg(long, value_name = "SECS")]
    seconds: Option<u32>,
    /// Also write the results to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut passed: Vec<OsString> = args.name.iter().cloned().collect();
    let numbers = [
        ("--pairs", args.pairs),
        ("--millis", args.millis),
        ("--flips", args.flips),
        ("--connections", args.connections),
        ("--seconds", args.seconds),
    ];
    for (option, number) in numbers {
        if let Some(number) = number {
            passed.extend([option.into(), number.to_string().into()]);
        }
    }
    if let Some(commit) = &args.against {
        let programs = against::programs(commit, &["synflip", "synflip-server"])?;
        passed.extend(["--against".into(), programs.into()]);
    }
    if let Some(file) = &args.json {
        passed.extend(["--json".into(), file.into()]);
    }
    exec("synflip-bench", &passed)
}
