//! A command that takes its time.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    process::{Child, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::tempfile;

use super::{Agent, Cli, Drained};
use crate::wait::{self, SOON};

/// A running `synflip` command, killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    // Files, which hold as much as it has to say.
    stdout: File,
    stderr: File,
}

impl Agent {
    /// Begins a command.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn begin(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.command(args)?;
        let (stdout, stderr) = (tempfile()?, tempfile()?);
        command
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        Ok(Running {
            child: command.spawn().context("run synflip")?,
            stdout,
            stderr,
        })
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
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
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
        let said = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        Ok(Cli::from(Output {
            status: self.child.wait().context("wait for the command")?,
            stdout: said(&mut self.stdout).context("read what it said")?,
            stderr: said(&mut self.stderr).context("read what it said")?,
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Best effort: what went wrong before is what has to be shown.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
