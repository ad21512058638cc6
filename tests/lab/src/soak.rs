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

use crate::command::{Interrupt, Screen, exit_code, missing, usage};
use options::Settings;
use report::Document;

/// Runs the soak that the command line asks for.
///
/// The exit code is 0 if no connection was lost and nothing else was promised in vain, 1 if not,
/// 2 if it cannot run as asked or here, and 128 and the signal's number if it was interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let settings = match Settings::new(env::args_os()) {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    exit_code("synflip-soak", run(&settings))
}

fn run(settings: &Settings) -> Result<ExitCode> {
    settings.output.check()?;
    missing("cargo xtask soak", true)?;
    let interrupt = Interrupt::install()?;
    let mut screen = Screen::new(settings.output.is_stdout());
    let story = chaos::run(settings, &mut screen, &interrupt);
    screen.clear();
    let story = story.map_err(|error| interrupt.explain(error))?;
    let document = Document::new(settings, &story);
    settings.output.write(&document)?;
    screen.write(&report::describe(&document, &story))?;
    Ok(if document.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
