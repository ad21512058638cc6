//! A flip that has not returned is half of what these tests are about.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::product::{Agent, Cli, Drained};

/// A command of the command line that is running; killed when dropped.
pub(crate) struct Background(Option<Child>);

impl Background {
    /// Begins a flip to a generation.
    pub(crate) fn flip(agent: &Agent, to: &str) -> Result<Self> {
        let mut command = agent.command(&["flip", "--json", "--to", to])?;
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Ok(Self(Some(child.context("start synflip flip")?)))
    }

    /// Checks that it has not returned.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        let child = self.0.as_mut().context("a child")?;
        let ended = child.try_wait().context("look after the flip")?;
        ensure!(ended.is_none(), "the flip has returned: {ended:?}");
        Ok(())
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn finish(mut self) -> Result<Drained> {
        let child = self.0.take().context("a child")?;
        let cli = Cli::from(child.wait_with_output().context("wait for the flip")?);
        ensure!(cli.code == 0, "{cli:?}");
        serde_json::from_str(&cli.stdout).with_context(|| format!("read {cli:?}"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // A test that fails must still show its own error.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
