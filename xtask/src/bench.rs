//! `cargo xtask bench`: measurements.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::program::exec;

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
    /// Also write the results to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut passed: Vec<OsString> = args.name.iter().cloned().collect();
    if let Some(pairs) = args.pairs {
        passed.extend(["--pairs".into(), pairs.to_string().into()]);
    }
    if let Some(connections) = args.connections {
        passed.extend(["--connections".into(), connections.to_string().into()]);
    }
    if let Some(file) = &args.json {
        passed.extend(["--json".into(), file.into()]);
    }
    exec("synflip-bench", &passed)
}
