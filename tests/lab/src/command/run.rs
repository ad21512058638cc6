//! From the command line to the exit code.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    Interrupt, Output, Screen,
    failure::{exit_code, usage},
    requirements::missing,
};

/// Runs a program with its settings, if they make sense; it says whether all was well.
pub(crate) fn main<S>(
    program: &str,
    settings: Result<S, clap::Error>,
    run: impl FnOnce(&S) -> Result<bool>,
) -> ExitCode {
    match settings {
        Ok(settings) => exit_code(program, run(&settings)),
        Err(error) => usage(&error),
    }
}

/// Measures, once nothing is missing and there is a place for the results; returns the screen too.
pub(crate) fn measured<T>(
    command: &str,
    needs_tun: bool,
    output: &Output,
    measure: impl FnOnce(&mut Screen, &Interrupt) -> Result<T>,
) -> Result<(T, Screen)> {
    output.check()?;
    missing(command, needs_tun)?;
    let interrupt = Interrupt::install()?;
    let mut screen = Screen::new(output.is_stdout());
    let result = measure(&mut screen, &interrupt);
    screen.clear();
    Ok((result.map_err(|error| interrupt.explain(error))?, screen))
}
