//! What do clients see while everything that can fail does?
//!
//! A soak is a real agent, real generations of a server and a real load generator, as in the
//! [demonstration](crate::demo), and a plan of faults that a seed makes. Nothing may be lost but
//! what a killed server had accepted and not answered, and the agent must not grow.

mod chaos;
mod faults;
mod footprint;
mod options;
mod plan;
mod report;
mod servers;
mod stalls;

use std::{env, process::ExitCode};

use anyhow::Result;

use crate::command::{self, measured};
use options::Settings;
use report::Document;

/// Runs the soak that the command line asks for.
///
/// The exit code is 0 if no connection was lost and nothing else was promised in vain, 1 if not,
/// 2 if it cannot run as asked or here, and 128 and the signal's number if it was interrupted.
#[must_use]
pub fn main() -> ExitCode {
    command::main("synflip-soak", Settings::new(env::args_os()), run)
}

fn run(settings: &Settings) -> Result<bool> {
    let chaos = |screen: &mut _, interrupt: &_| chaos::run(settings, screen, interrupt);
    let (story, mut screen) = measured("cargo xtask soak", true, &settings.output, chaos)?;
    let document = Document::new(settings, &story);
    settings.output.write(&document)?;
    screen.write(&report::describe(&document, &story))?;
    Ok(document.is_good())
}
