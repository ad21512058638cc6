//! What do clients see while a server is replaced again and again under load?
//!
//! A run is a real agent, real generations of a server and a real load generator, each a process
//! of its own, in namespaces with a distance between them. The same restarts can be made once
//! more without steering. Both halves follow one `schedule`; `drive` carries it out.
//!
//! Everything that a run makes is owned by values of the main thread, so that an interrupt, which
//! only sets a flag, leaves nothing behind: see `Interrupt`.

mod document;
mod drive;
mod half;
mod kill;
mod latency;
mod options;
mod plain;
mod schedule;
mod steered;
mod summary;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::command::{self, Interrupt, Screen, measured};
use document::Document;
use half::{Half, Mode};
use options::{Baseline, Settings};
use schedule::Schedule;

/// Runs the demonstration that the command line asks for.
///
/// The exit code is 0 if no connection was lost and nothing else was promised in vain, 1 if not,
/// 2 if it cannot run as asked or here, and 128 and the signal's number if it was interrupted.
#[must_use]
pub fn main() -> ExitCode {
    command::main("synflip-run", Settings::new(env::args_os()), run)
}

fn run(settings: &Settings) -> Result<bool> {
    let halves = |screen: &mut _, interrupt: &_| halves(settings, screen, interrupt);
    let ((steered, baseline), mut screen) =
        measured("cargo xtask run", true, &settings.output, halves)?;
    let text = summary::describe(settings, &steered, baseline.as_ref());
    let document = Document::new(settings, &steered, baseline.as_ref());
    settings.output.write(&document)?;
    screen.write(&text)?;
    Ok(steered.problems().is_empty())
}

fn halves(
    settings: &Settings,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<(Half, Option<Half>)> {
    let schedule = Schedule::new(settings.delay.seed, settings.flips, settings.duration)
        .context("the flips were checked to fit")?;
    screen.line(&summary::headline(settings))?;
    let mut half = |mode| Half::run(mode, settings, &schedule, screen, interrupt);
    let steered = half(Mode::Steered)?;
    let baseline = match settings.baseline {
        Baseline::Plain => Some(half(Mode::Plain)?),
        Baseline::None => None,
    };
    Ok((steered, baseline))
}
