//! The load generator, as a process.

use std::{
    fs::{self, File},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Network, first,
    load::{Config, Mode, Progress, Report},
    product::{lines, program},
    wait::SOON,
};
use tempfile::TempDir;

use crate::command::Interrupt;

/// A running load generator, killed when dropped.
pub(crate) struct Generator {
    child: Child,
    // Its end tells the generator to open no more connections.
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    latest: Progress,
    dir: TempDir,
}

impl Generator {
    /// Starts it, and waits until the first connections have been answered.
    ///
    /// It makes load until it is stopped, or the configured duration is over.
    pub(crate) fn start(net: &Network, config: &Config, interrupt: &Interrupt) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for the load's files")?;
        let mut command = Command::new(program("synflip-load")?);
        for address in &config.connect {
            command.arg("--connect").arg(address.to_string());
        }
        command
            .args(["--progress", "--until-stdin-closes"])
            .arg("--seconds")
            .arg(config.duration.as_secs_f64().to_string())
            .arg("--timeout")
            .arg(config.timeout.as_secs_f64().to_string())
            .arg("--seed")
            .arg(config.seed.to_string())
            .arg("--json")
            .arg(dir.path().join(REPORT));
        if let Some(samples) = &config.samples {
            command.arg("--samples").arg(samples);
        }
        match config.mode {
            Mode::Closed { clients } => command.arg("--clients").arg(clients.to_string()),
            Mode::Open {
                rate,
                max_in_flight,
            } => command
                .arg("--rate")
                .arg(rate.to_string())
                .arg("--max-in-flight")
                .arg(max_in_flight.to_string()),
        };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join(ERRORS))?);
        let child = first(|| net.client.spawn(&mut command));
        let mut child = child.context("start synflip-load")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        let mut generator = Self {
            child,
            stdin,
            lines: lines(stdout),
            latest: Progress::default(),
            dir,
        };
        let answered = interrupt.until("a first connection is answered", SOON, || {
            Ok(generator.progress()?.ok > 0)
        });
        answered.with_context(|| generator.errors())?;
        Ok(generator)
    }

    /// The latest counts.
    pub(crate) fn progress(&mut self) -> Result<Progress> {
        for line in self.lines.try_iter() {
            self.latest = serde_json::from_str(&line).context("read the load's progress")?;
        }
        if self.stdin.is_some() {
            let ended = self.has_ended();
            ensure!(
                !ended,
                "the load ended before it was told to: {}",
                self.errors()
            );
        }
        Ok(self.latest)
    }

    /// Tells it to open no more connections. It follows the open ones to their end.
    pub(crate) fn stop(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// What became of the connections, once it has ended.
    pub(crate) fn results(mut self) -> Result<Report> {
        let status = self.child.wait().context("wait for synflip-load")?;
        ensure!(status.success(), "{}", self.errors());
        let path = self.dir.path().join(REPORT);
        let report = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let report: Report = serde_json::from_slice(&report).context("read the load's report")?;
        let own = &report.local_errors;
        ensure!(own.count == 0, "the load failed by itself: {own:?}");
        Ok(report)
    }

    fn errors(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join(ERRORS)).unwrap_or_default();
        format!("synflip-load said: {:?}", text.trim())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // Best effort: what went wrong before is what has to be shown.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A load is told when to stop. So much longer it would last if nobody were left to tell it.
pub(crate) const BEYOND: Duration = Duration::from_secs(600);
const REPORT: &str = "report.json";
const ERRORS: &str = "load.err";
