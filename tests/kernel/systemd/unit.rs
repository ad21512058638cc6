//! How does a test talk to systemd? As administrators do.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A unit.
#[derive(Debug)]
pub(crate) struct Unit(String);

impl Unit {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Starts it, and waits for that.
    pub(crate) fn start(&self) -> Result<()> {
        systemctl(&["start", &self.0]).map(drop)
    }

    /// Stops it, and waits for that.
    pub(crate) fn stop(&self) -> Result<()> {
        systemctl(&["stop", &self.0]).map(drop)
    }

    /// Starts it again, and waits for that.
    pub(crate) fn restart(&self) -> Result<()> {
        systemctl(&["restart", &self.0]).map(drop)
    }

    /// Sends a signal to all of its processes.
    pub(crate) fn kill(&self, signal: &str) -> Result<()> {
        systemctl(&["kill", "--signal", signal, &self.0]).map(drop)
    }

    /// Its main process; 0 if it has none.
    pub(crate) fn main_pid(&self) -> Result<u32> {
        self.number("MainPID")
    }

    /// The descriptors that systemd keeps for it.
    pub(crate) fn stored(&self) -> Result<u32> {
        self.number("NFileDescriptorStore")
    }

    /// How often systemd has started it again by itself.
    pub(crate) fn restarts(&self) -> Result<u32> {
        self.number("NRestarts")
    }

    /// A property, as `systemctl show` prints it.
    pub(crate) fn property(&self, name: &str) -> Result<String> {
        let said = systemctl(&["show", "--value", "--property", name, &self.0])?;
        Ok(said.trim().to_owned())
    }

    /// What one of its processes has said.
    pub(crate) fn journal_of(&self, pid: u32) -> Result<String> {
        run("journalctl", &["--sync"])?;
        let of_process = format!("_PID={pid}");
        let of_unit = ["--no-pager", "--output=cat", "--unit", &self.0];
        run("journalctl", &[&of_unit[..], &[&of_process]].concat())
    }

    fn number(&self, property: &str) -> Result<u32> {
        let said = self.property(property)?;
        said.parse()
            .with_context(|| format!("{property} of {} is {said:?}", self.0))
    }
}

/// Runs a command of systemd, which must succeed.
pub(crate) fn systemctl(args: &[&str]) -> Result<String> {
    run("systemctl", args)
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {args:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
