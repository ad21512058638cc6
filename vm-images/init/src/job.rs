//! One program: run it, pass on what it prints, end it when its time is over.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, wait},
};
use serde::Deserialize;

use crate::report::{Line, Report};

/// A program to run.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    /// It is killed after so many seconds.
    deadline_s: u64,
    /// A text file that it writes, to be sent out when it has ended.
    output: Option<PathBuf>,
}

impl Job {
    /// Runs it to its end; an error means that no further job makes sense.
    pub(crate) fn run(&self, env: &BTreeMap<String, String>, report: &mut Report) -> Result<()> {
        report.line(&Line::Start(&self.name))?;
        let start = Instant::now();
        let how = match self.execute(env, report) {
            Ok(how) => how,
            Err(error) => {
                report.line(&Line::Say(&format!("{error:#}")))?;
                "not-started".to_owned()
            }
        };
        if let Some(text) = self
            .output
            .as_ref()
            .and_then(|o| fs::read_to_string(o).ok())
        {
            for line in text.lines() {
                report.line(&Line::Data(line))?;
            }
        }
        let ms = start.elapsed().as_millis();
        report.line(&Line::End(&self.name, &how, ms))
    }

    /// How it ended, in one word.
    fn execute(&self, env: &BTreeMap<String, String>, report: &Report) -> Result<String> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let child = {
            // The command holds the write end; the reader waits until the last one is closed.
            let mut command = Command::new(&self.program);
            command
                .args(&self.args)
                .env_clear()
                .envs(env)
                .stdin(Stdio::null())
                .stdout(writer.try_clone().context("duplicate a pipe")?)
                .stderr(writer);
            let started = command.spawn();
            started.with_context(|| format!("start {}", self.program.display()))?
        };
        let mut port = report.another()?;
        let printer = thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if port.line(&Line::Say(line.trim_end_matches('\r'))).is_err() {
                    break;
                }
            }
        });
        let (ended, alarm) = mpsc::channel::<()>();
        let limit = Duration::from_secs(self.deadline_s);
        let watch = thread::spawn(move || {
            let late = alarm.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                kill_everything();
            }
            late
        });
        let status = reap(Pid::from_child(&child));
        drop(ended);
        let late = watch.join().unwrap_or(false);
        // What it left behind must not disturb the next one, nor keep the pipe open.
        kill_everything();
        drop(printer.join());
        let status = status?;
        Ok(match (late, status.code(), status.signal()) {
            (true, _, _) => "deadline".to_owned(),
            (_, Some(0), _) => "ok".to_owned(),
            (_, Some(code), _) => format!("exit:{code}"),
            (_, _, signal) => format!("signal:{}", signal.unwrap_or_default()),
        })
    }
}

/// Waits for one process, and collects on the way the orphans that PID 1 inherits.
fn reap(wanted: Pid) -> Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == wanted => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for a process"),
        }
    }
}

/// Kills every process but this one. Kernel threads do not listen.
fn kill_everything() {
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in pids.filter_map(Pid::from_raw).filter(|pid| !pid.is_init()) {
        // It may just have ended by itself.
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}
