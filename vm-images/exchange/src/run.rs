//! One job: run it, pass on what it prints, end it when its time is over.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, PipeReader},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    End, Ended, Job, SKIPPED,
    leftovers::{MARK, kill_marked, mark},
};

/// How a process is started and waited for.
pub trait Wait: Sync {
    /// Starts a process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    fn start(&self, command: &mut Command) -> io::Result<Child>;

    /// Waits for its end; none if it has not ended after so long.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    fn wait(&self, child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>>;
}

/// Waits as everybody does who has no other children than his own.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Wait for Direct {
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }

    fn wait(&self, child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_too_long| Errno::INVAL)?;
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            match poll(&mut ended, Some(&left)) {
                Ok(0) => return Ok(None),
                Ok(_) => return child.wait().map(Some),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Runs a job to its end, and says each line that it prints. Nothing is left of it then.
///
/// The environment is added to this process's own; `scratch` is a directory for files that two
/// jobs at a time do not share.
pub fn run(
    job: &Job,
    env: &BTreeMap<String, String>,
    scratch: &Path,
    wait: &dyn Wait,
    say: impl FnMut(String) + Send,
) -> Ended {
    let mark = mark();
    let skipped = scratch.join(format!("skipped-{mark}"));
    let mut command = Command::new(&job.program);
    command
        .args(&job.args)
        .envs(env)
        .envs(&job.env)
        .env(SKIPPED, &skipped)
        .env(MARK, &mark);
    let start = Instant::now();
    let end = execute(command, job.deadline, &mark, wait, say);
    let took = start.elapsed();
    let end = end.unwrap_or_else(|error| End::NotStarted {
        why: format!("{error:#}"),
    });
    let read = |file: &Path| fs::read_to_string(file).ok();
    let ended = Ended {
        end,
        took,
        skipped: read(&skipped).map(|text| text.trim().to_owned()),
        output: job.output.as_deref().and_then(read),
    };
    // Most have written none.
    fs::remove_file(skipped).unwrap_or_default();
    ended
}

fn execute(
    mut command: Command,
    limit: Duration,
    mark: &str,
    wait: &dyn Wait,
    say: impl FnMut(String) + Send,
) -> Result<End> {
    let (reader, writer) = io::pipe().context("make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("duplicate a pipe")?)
        .stderr(writer);
    let started = wait.start(&mut command);
    let mut child = started.context("start its program")?;
    // It holds the write end; the reader waits until the last one is closed.
    drop(command);
    thread::scope(|scope| {
        scope.spawn(|| follow(reader, say));
        let ended = wait.wait(&mut child, limit);
        // Whatever became of it: what it leaves must not disturb the next one, nor keep the
        // pipe open.
        kill_marked(mark);
        let end = match ended.context("wait for it")? {
            Some(status) => match (status.code(), status.signal()) {
                (Some(0), _) => End::Ok,
                (Some(code), _) => End::Failed { code },
                (None, signal) => End::Signal {
                    number: signal.unwrap_or_default(),
                },
            },
            None => {
                wait.wait(&mut child, DEATH).context("wait for its death")?;
                End::Deadline
            }
        };
        Ok(end)
    })
}

fn follow(reader: PipeReader, mut say: impl FnMut(String)) {
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        say(line.trim_end_matches('\r').to_owned());
    }
}

/// How long a killed process may take to end.
const DEATH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> (Ended, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let job = Job {
            name: "shell".into(),
            program: "/bin/sh".into(),
            args: ["-c".to_owned(), script.to_owned()].into(),
            deadline,
            output: Some(dir.path().join("output")),
            env: [("DIR".to_owned(), dir.path().display().to_string())].into(),
            ..Job::default()
        };
        let mut lines = Vec::new();
        let env = [("WORD".to_owned(), "hello".to_owned())].into();
        let ended = run(&job, &env, dir.path(), &Direct, |line| lines.push(line));
        (ended, lines)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_a_job_says_and_writes_is_there_at_its_end() {
        let script = "echo $WORD; echo error >&2; echo '{}' > $DIR/output; \
            echo netem > $SYNFLIP_SKIPPED";
        let (ended, lines) = shell(script, LONG);
        assert_eq!(ended.end, End::Ok);
        assert_eq!(lines, ["hello", "error"]);
        assert_eq!(ended.skipped.as_deref(), Some("netem"));
        assert_eq!(ended.output.as_deref(), Some("{}\n"));
    }

    #[test]
    fn every_end_is_told_from_the_others() {
        let end = |script, deadline| shell(script, deadline).0.end;
        assert_eq!(end("exit 101", LONG), End::Failed { code: 101 });
        assert_eq!(end("kill -9 $$", LONG), End::Signal { number: 9 });
        let short = Duration::from_millis(100);
        assert_eq!(end("sleep 60", short), End::Deadline);
        let job = Job {
            program: "/no/such/program".into(),
            ..Job::default()
        };
        let ended = run(&job, &BTreeMap::new(), Path::new("/tmp"), &Direct, |_| {});
        assert!(
            matches!(ended.end, End::NotStarted { .. }),
            "{:?}",
            ended.end
        );
    }

    #[test]
    fn what_a_job_leaves_behind_is_killed() {
        let start = Instant::now();
        // In a session of its own, and with the pipe still open.
        let (ended, lines) = shell("setsid sleep 60 & echo $!", LONG);
        assert_eq!(ended.end, End::Ok);
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
        let process = format!("/proc/{}/cmdline", lines[0]);
        let left = fs::read(process).unwrap_or_default();
        assert!(left.is_empty(), "{}", String::from_utf8_lossy(&left));
    }
}
