//! A command that takes its time.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Agent, Cli, Drained};
use crate::wait::{self, SOON};

/// A running `synflip` command, killed when dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Agent {
    /// Begins a command that prints no more than a pipe holds.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn begin(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.command(args)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Running(Some(command.spawn().context("run synflip")?)))
    }

    /// Begins a flip to a generation, which returns when the old one has drained.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn begin_flip(&self, to: &str) -> Result<Running> {
        self.begin(&["flip", "--json", "--to", to])
    }
}

impl Running {
    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|ended| ended.is_some());
        self.0.as_mut().is_none_or(ended)
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    ///
    /// When it has.
    pub fn still_runs(&mut self) -> Result<()> {
        ensure!(!self.has_ended(), "the command has returned");
        Ok(())
    }

    /// Waits for the end of a flip, which must be a success.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn drained(self) -> Result<Drained> {
        let cli = self.end(2 * SOON)?;
        ensure!(cli.code == 0, "{cli:?}");
        serde_json::from_str(&cli.stdout).with_context(|| format!("read {cli:?}"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within `limit`.
    pub fn end(mut self, limit: Duration) -> Result<Cli> {
        wait::until("the command ends", limit, || self.has_ended())?;
        let child = self.0.take().context("it was started")?;
        Ok(Cli::from(
            child.wait_with_output().context("read what it said")?,
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Best effort: what went wrong before is what has to be shown.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
