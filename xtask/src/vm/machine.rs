//! One machine from its first to its last word: started, listened to, killed if it hangs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _},
    path::Path,
    process::Command,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::vm::console::{Phase, Story};

/// What `synflip-init` is to do (`vm-images/init/src/main.rs`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Plan {
    /// Files of modules, in the order to load them.
    pub(crate) modules: Vec<String>,
    /// The environment of the jobs.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) jobs: Vec<Job>,
}

/// A program to run inside.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) deadline_s: u64,
    /// A text file that it writes, wanted outside.
    pub(crate) output: Option<String>,
}

/// A line of one of the serial ports.
enum Line {
    Kernel(String),
    Report(String),
}

/// Boots a machine and follows it to its end; every line goes to a log, and those that are for a
/// person to `show`.
///
/// # Errors
/// When it cannot be started or logged. What goes wrong inside is part of the story.
pub(crate) fn follow(
    command: &mut Command,
    plan: &Plan,
    boot: Duration,
    log: &Path,
    show: &mut dyn FnMut(&str),
) -> Result<Story> {
    let log_failed = || format!("cannot write {}", log.display());
    let mut log = BufWriter::new(File::create(log).with_context(log_failed)?);
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start QEMU")?;
    let (sender, lines) = mpsc::channel();
    let stderr = child.stderr.take().context("QEMU has no stderr")?;
    let stdout = child.stdout.take().context("QEMU has no stdout")?;
    let other = sender.clone();
    let readers = [
        thread::spawn(move || forward(stderr, Line::Kernel, &other)),
        thread::spawn(move || forward(stdout, Line::Report, &sender)),
    ];
    let mut story = Story::default();
    let mut deadline = start + boot;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => {
                story.ended();
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                story.killed(&overdue(&story, start.elapsed()));
                break;
            }
        };
        let at = start.elapsed().as_secs_f64();
        let before = story.phase;
        match line {
            Line::Kernel(line) => {
                writeln!(log, "{at:9.3} kernel | {line}").with_context(log_failed)?;
                story.kernel(&line);
                // Its last words follow, but it may never end.
                if line.contains("KVM internal error") {
                    story.killed("KVM cannot run this kernel");
                    break;
                }
            }
            Line::Report(line) => {
                writeln!(log, "{at:9.3} init   | {line}").with_context(log_failed)?;
                if let Some(line) = story.report(&line) {
                    show(line);
                }
            }
        }
        if story.phase != before {
            deadline = Instant::now() + patience(plan, &story);
        }
    }
    // It has ended by itself, or it never will.
    child.kill().context("cannot kill QEMU")?;
    child.wait().context("cannot wait for QEMU")?;
    for reader in readers {
        drop(reader.join());
    }
    log.flush().with_context(log_failed)?;
    Ok(story)
}

/// How long a machine may take to its next step.
fn patience(plan: &Plan, story: &Story) -> Duration {
    // PID 1 ends a late job itself; only if it does not, the machine hangs.
    let job = match (story.phase, story.jobs.last()) {
        (Phase::Running, Some(ran)) => plan.jobs.iter().find(|job| job.name == ran.name),
        _ => None,
    };
    Duration::from_secs(job.map_or(0, |job| job.deadline_s)) + STEP
}

fn overdue(story: &Story, after: Duration) -> String {
    let doing = match (story.phase, story.jobs.last()) {
        (Phase::Booting, _) => "it had not booted".to_owned(),
        (Phase::Running, Some(ran)) => format!("{} was running", ran.name),
        _ => "it had not powered off".to_owned(),
    };
    format!(
        "the machine hung and was killed after {} s: {doing}",
        after.as_secs()
    )
}

fn forward(from: impl Read, kind: fn(String) -> Line, to: &Sender<Line>) -> io::Result<()> {
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?)
            .trim_end_matches('\r')
            .to_owned();
        if to.send(kind(line)).is_err() {
            break;
        }
    }
    Ok(())
}

/// For a step that takes no time, on a machine that has very little of it.
const STEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_shell(script: &str, deadline_s: u64) -> (Story, Vec<String>, String) {
        use std::process::Stdio;
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        let job = Job {
            name: "flip".into(),
            program: "/bin/flip".into(),
            args: vec![],
            deadline_s,
            output: None,
        };
        let plan = Plan {
            jobs: vec![job],
            ..Plan::default()
        };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut shown = Vec::new();
        let boot = Duration::from_millis(300);
        let mut show = |line: &str| shown.push(line.to_owned());
        let story = follow(&mut shell, &plan, boot, &log, &mut show).unwrap();
        (story, shown, std::fs::read_to_string(&log).unwrap())
    }

    #[test]
    fn a_machine_that_ends_well_has_its_log_and_its_output() {
        let script =
            "echo start flip; echo say hello; echo Linux >&2; echo end flip ok 7; echo done";
        let (story, shown, log) = follow_shell(script, 1);
        assert!(story.troubles.is_empty(), "{:?}", story.troubles);
        assert_eq!(story.jobs[0].end.as_deref(), Some("ok"));
        assert_eq!(shown, ["hello"]);
        assert!(
            log.contains("kernel | Linux") && log.contains("init   | say hello"),
            "{log}"
        );
    }

    #[test]
    fn a_machine_that_does_not_boot_is_killed_and_says_so() {
        let (story, _, _) = follow_shell("echo some firmware >&2; exec sleep 60", 1);
        let trouble = story.troubles.concat();
        assert!(trouble[0].contains("had not booted"), "{trouble:?}");
        assert_eq!(trouble.last().unwrap(), "some firmware");
    }

    #[test]
    fn a_machine_that_ends_in_a_job_is_in_trouble() {
        let (story, _, _) = follow_shell("echo start flip; echo say hello", 1);
        assert!(
            story.troubles[0][0].contains("ended by itself"),
            "{:?}",
            story.troubles
        );
    }
}
