//! Ctrl-C: what this process has started ends with it, however it ends.

use std::{
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    process::{self, Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use synflip_exchange::{kill_marked, marks_of};

/// A process that outlives this one, and then kills what has a mark of it: tests and machines.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn start() -> Result<Self> {
        // The file may have been replaced since this process has started.
        let mut command = Command::new("/proc/self/exe");
        command.arg("guard").arg(process::id().to_string());
        // Ctrl-C is for the group of this process.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("cannot start the guard")?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closes the pipe first. Nothing is left to be killed.
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// Waits for the end of the process that has started this one, which holds the other end of the
/// pipe, and kills what it has left.
pub(crate) fn run(guarded: u32) -> Result<ExitCode> {
    io::stdin().read_to_end(&mut Vec::new())?;
    kill_marked(&marks_of(guarded));
    Ok(ExitCode::SUCCESS)
}
