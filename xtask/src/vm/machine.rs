//! One machine from its first to its last word: started, listened to, killed if it hangs.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _},
    path::Path,
    process::{Child, Command},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use synflip_exchange::{MARK, Plan, State, mark};

use crate::vm::console::{Heard, Story};

/// A line of one of the serial ports.
enum Line {
    Kernel(String),
    Report(String),
}

/// Boots a machine and follows it to its end; every line goes to a log, and what a person may
/// want to see to `hear`.
///
/// # Errors
/// When it cannot be started or logged. What goes wrong inside is part of the story.
pub(crate) fn follow(
    command: &mut Command,
    plan: &Plan,
    boot: Duration,
    log: &Path,
    hear: &mut dyn FnMut(Heard<'_>),
) -> Result<Story> {
    let log_failed = || format!("cannot write {}", log.display());
    let mut log = BufWriter::new(File::create(log).with_context(log_failed)?);
    let start = Instant::now();
    let child = command.env(MARK, mark()).spawn();
    let mut child = Running(child.context("cannot start QEMU")?);
    let (sender, lines) = mpsc::channel();
    let stderr = child.0.stderr.take().context("QEMU has no stderr")?;
    let stdout = child.0.stdout.take().context("QEMU has no stdout")?;
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
                if story.report(&line, hear) {
                    deadline = Instant::now() + patience(plan, &story);
                }
            }
        }
    }
    // It has ended by itself, or it never will.
    drop(child);
    for reader in readers {
        drop(reader.join());
    }
    log.flush().with_context(log_failed)?;
    Ok(story)
}

/// A machine that ends when nobody listens to it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// How long a machine may take to its next step.
fn patience(plan: &Plan, story: &Story) -> Duration {
    // PID 1 ends a late job itself; only if it does not, the machine hangs.
    let running = &story.progress.running;
    let runs = |name: &String| running.iter().any(|ran| ran.name == *name);
    let jobs = plan.jobs.iter().filter(|job| runs(&job.name));
    jobs.map(|job| job.deadline).max().unwrap_or_default() + STEP
}

fn overdue(story: &Story, after: Duration) -> String {
    let running = story.progress.running.iter();
    let names: Vec<_> = running.map(|ran| ran.name.as_str()).collect();
    let doing = match story.progress.state {
        State::Booting => "it had not booted".to_owned(),
        State::Working if !names.is_empty() => format!("it was running {}", names.join(" and ")),
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
    use std::process::Stdio;

    use synflip_exchange::{End, Ended, Event};

    use super::*;

    fn follow_shell(script: &str) -> (Story, Vec<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        let plan = Plan::default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut heard = Vec::new();
        let boot = Duration::from_millis(300);
        let mut hear = |what: Heard<'_>| {
            if let Heard::Said(line) = what {
                heard.push(line.to_owned());
            }
        };
        let story = follow(&mut shell, &plan, boot, &log, &mut hear).unwrap();
        (story, heard, std::fs::read_to_string(&log).unwrap())
    }

    fn echo(events: &[Event]) -> String {
        let line = |event: &Event| format!("echo '{}'; ", event.to_line().unwrap().trim_end());
        events.iter().map(line).collect()
    }

    fn until_it_said_hello() -> [Event; 3] {
        let job = || "flip".to_owned();
        let line = "hello".to_owned();
        [
            Event::Booted,
            Event::Started { job: job() },
            Event::Said { job: job(), line },
        ]
    }

    #[test]
    fn a_machine_that_ends_well_has_its_log_and_its_output() {
        let job = "flip".to_owned();
        let ended = Ended {
            end: End::Ok,
            took: Duration::from_millis(7),
            skipped: None,
            output: None,
        };
        let rest = [Event::Ended { job, ended }, Event::Done];
        let events = [&until_it_said_hello()[..], &rest].concat();
        let (story, heard, log) = follow_shell(&format!("echo Linux >&2; {}", echo(&events)));
        assert!(story.troubles.is_empty(), "{:?}", story.troubles);
        assert_eq!(story.progress.ended[0].0.lines, ["hello"]);
        assert_eq!(heard, ["hello"]);
        assert!(
            log.contains("kernel | Linux") && log.contains("init   | {\"said\""),
            "{log}"
        );
    }

    #[test]
    fn a_machine_that_does_not_boot_is_killed_and_says_so() {
        let (story, _, _) = follow_shell("echo some firmware >&2; exec sleep 60");
        let trouble = story.troubles.concat();
        assert!(trouble[0].contains("had not booted"), "{trouble:?}");
        assert_eq!(trouble.last().unwrap(), "some firmware");
    }

    #[test]
    fn a_machine_that_ends_in_a_job_is_in_trouble() {
        let (story, _, _) = follow_shell(&echo(&until_it_said_hello()));
        assert!(
            story.troubles[0][0].contains("ended by itself"),
            "{:?}",
            story.troubles
        );
    }
}
