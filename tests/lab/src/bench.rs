//! What does steering cost?
//!
//! Each measurement compares two things in one run, alternating, and prints their ratio: numbers
//! of different hosts or days cannot be compared, ratios can. Nothing here fails because it was
//! slow.

mod flip;
mod idle;
mod interval;
mod looks;
mod measure;
mod memory;
mod run_time;
mod steering;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use synflip_bed::{capability::release, first};

use crate::command::{self, Interrupt, Output, Screen, measured};

/// Measure what steering costs, each time beside what it is compared with.
#[derive(Debug, Parser)]
#[command(name = "synflip-bench", version)]
struct Args {
    /// What to measure; everything if it is left out
    name: Option<Name>,
    /// Also write the results to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// steering: pairs of runs
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// steering: length of a run, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u32).range(50..=60_000))]
    millis: u32,
    /// flip: flips of each kind [default: 20; 100 with --against]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    flips: Option<u32>,
    /// flip: beside those of the programs in DIR, which are another commit's
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// looks: established connections that are looked past
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// idle: how long to look
    #[arg(long, default_value_t = 60, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Connections per second with synflip and with plain SO_REUSEPORT
    Steering,
    /// Commit time of a flip with 1 and with 64 listeners, and of a grace period alone
    Flip,
    /// Resident memory of the agent with 0 and with 256 listeners
    Memory,
    /// A look, a drain and a death beside no connections and beside many
    Looks,
    /// Processor time of the agent with 0 and with 16 services that nobody uses
    Idle,
}

/// The results of what was measured.
#[derive(Default, Serialize)]
struct Document {
    kernel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    steering: Option<steering::Steering>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flip: Option<flip::Flip>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<memory::Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<looks::Looks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<idle::Idle>,
}

/// Runs the measurements that the command line asks for.
///
/// The exit code is 0 if they could be made, 2 if they cannot be made as asked or here, 128 and
/// the signal's number if they were interrupted, and 1 otherwise.
#[must_use]
pub fn main() -> ExitCode {
    command::main("synflip-bench", Args::try_parse(), run)
}

fn run(args: &Args) -> Result<bool> {
    let output = Output::new(args.json.clone());
    let all = |screen: &mut _, interrupt: &_| measure_all(args, screen, interrupt);
    let (document, _) = measured("cargo xtask bench", false, &output, all)?;
    output.write(&document)?;
    Ok(true)
}

fn measure_all(args: &Args, screen: &mut Screen, interrupt: &Interrupt) -> Result<Document> {
    let wanted = |name| args.name.is_none_or(|only| only == name);
    let mut document = Document {
        kernel: release(),
        ..Document::default()
    };
    screen.line(&format!("Linux {}", document.kernel))?;
    if wanted(Name::Steering) {
        let length = Duration::from_millis(args.millis.into());
        // Both sides alike, so that other programs of the host matter less.
        let result = first(|| steering::measure(args.pairs, length, screen, interrupt))?;
        screen.write(&result.describe())?;
        document.steering = Some(result);
    }
    if wanted(Name::Flip) {
        let against = args.against.as_deref();
        let usual = if against.is_some() { 100 } else { 20 };
        let flips = args.flips.unwrap_or(usual);
        let result = flip::measure(flips, against, screen, interrupt)?;
        screen.write(&result.describe())?;
        document.flip = Some(result);
    }
    if wanted(Name::Memory) {
        let result = memory::measure(interrupt)?;
        screen.write(&result.describe())?;
        document.memory = Some(result);
    }
    if wanted(Name::Looks) {
        let result = first(|| looks::measure(args.connections, screen, interrupt))?;
        screen.write(&result.describe())?;
        document.looks = Some(result);
    }
    if wanted(Name::Idle) {
        let length = Duration::from_secs(args.seconds.into());
        let result = idle::measure(length, screen, interrupt)?;
        screen.write(&result.describe())?;
        document.idle = Some(result);
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn measurements_have_names() {
        for name in ["steering", "flip", "memory", "looks", "idle"] {
            assert!(Args::try_parse_from(["synflip-bench", name]).is_ok());
        }
        let error = Args::try_parse_from(["synflip-bench", "speed"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
