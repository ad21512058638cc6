//! How does the run get its load, and how does it learn what became of it?

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Stage, first};
use crate::command::Interrupt;
use synflip_bed::{
    load::{Config, Mode, Progress, Report},
    product::program,
    wait,
};

/// A running load generator, killed when dropped.
pub(crate) struct Load {
    child: Child,
    // Its end tells the generator to open no more connections.
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    latest: Progress,
    dir: PathBuf,
}

impl Load {
    /// Starts it, and waits until the first connections have been answered.
    ///
    /// It makes load until it is stopped; the configured duration is for the case that nobody is
    /// left to stop it.
    pub(crate) fn start(stage: &Stage, config: &Config, interrupt: &Interrupt) -> Result<Self> {
        let dir = stage.dir.path().to_owned();
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
            .arg(dir.join(REPORT));
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
            .stderr(File::create(dir.join(ERRORS))?);
        let mut child = first(|| stage.client.spawn(&mut command)).context("start synflip-load")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut load = Self {
            child,
            stdin,
            lines,
            latest: Progress::default(),
            dir,
        };
        let mut failure = Ok(());
        let limit = config.timeout + STARTS_WITHIN;
        wait::until("a first connection is answered", limit, || {
            failure = interrupt.check().and_then(|()| load.progress().map(drop));
            failure.is_err() || load.latest.ok > 0
        })
        .with_context(|| load.errors())?;
        failure.map(|()| load)
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
        let path = self.dir.join(REPORT);
        let report = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&report).context("read the load's report")
    }

    fn errors(&self) -> String {
        let text = fs::read_to_string(self.dir.join(ERRORS)).unwrap_or_default();
        format!("synflip-load said: {:?}", text.trim())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Best effort: what went wrong before is what has to be shown.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const REPORT: &str = "report.json";
const ERRORS: &str = "load.err";
/// On a slow virtual machine.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
