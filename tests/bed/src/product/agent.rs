//! How does a test run an agent of its own?

mod launch;

use std::{
    fs,
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Netns, product::Pins, sys, wait};
pub use launch::Options;
use launch::{launch, socket};

/// How long an agent may take to start, on a slow virtual machine.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// What is shown of its log, in an error.
const LAST_LINES: usize = 30;
/// In its log, before the name of a point that it has reached.
const REACHED: &str = " TRACE reached ";

/// An agent with a socket and pins of its own, killed and cleaned up when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    dir: TempDir,
    pins: Pins,
    options: Options,
}

impl Agent {
    /// Starts an agent in a namespace and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not, with its log.
    pub fn start(netns: &Netns) -> Result<Self> {
        Self::start_with(netns, Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// When it does not answer, with its log.
    pub fn start_with(netns: &Netns, options: Options) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for the agent's socket")?;
        let pins = Pins::new()?;
        let child = launch(netns, dir.path(), pins.path(), &options)?;
        let mut agent = Self {
            child,
            dir,
            pins,
            options,
        };
        agent.wait_until_it_answers()?;
        Ok(agent)
    }

    /// Starts a dead agent again, with the same socket and pins.
    ///
    /// # Errors
    ///
    /// When it does not answer, with its log.
    pub fn restart(&mut self, netns: &Netns) -> Result<()> {
        self.launch(netns)?;
        self.wait_until_it_answers()
    }

    /// The same with other arguments from now on.
    ///
    /// # Errors
    ///
    /// When it does not answer, with its log.
    pub fn restart_with(&mut self, netns: &Netns, args: &[&str]) -> Result<()> {
        self.options.args = args.iter().map(ToString::to_string).collect();
        self.restart(netns)
    }

    /// The same, but does not ask it anything: it may not live that long, or is to be left alone.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart_unasked(&mut self, netns: &Netns, args: &[&str]) -> Result<()> {
        self.options.args = args.iter().map(ToString::to_string).collect();
        self.launch(netns)
    }

    /// Starts this workspace's agent where another commit's was, with the same socket and pins.
    ///
    /// # Errors
    ///
    /// When it does not answer, with its log.
    pub fn upgrade(&mut self, netns: &Netns) -> Result<()> {
        self.options.programs = None;
        self.restart(netns)
    }

    fn launch(&mut self, netns: &Netns) -> Result<()> {
        self.kill(Signal::KILL)?;
        self.child = launch(netns, self.dir.path(), self.pins.path(), &self.options)?;
        Ok(())
    }

    /// Whether it has ended, without waiting.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Waits until it has killed itself (`--die-at`).
    ///
    /// # Errors
    ///
    /// When it lives, or has ended in another way.
    pub fn wait_death(&mut self, limit: Duration) -> Result<()> {
        let child = &mut self.child;
        let mut ended = None;
        let waited = wait::until("the agent kills itself", limit, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some()
        });
        waited.with_context(|| self.log())?;
        let signal = ended.and_then(|status| status.signal());
        ensure!(
            signal == Some(Signal::KILL.as_raw()),
            "it ended otherwise ({ended:?}):\n{}",
            self.log()
        );
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let answered = wait::until("the agent answers", STARTS_WITHIN, || {
            self.listens() && self.answers()
                || self.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        let ended = self.child.try_wait().context("look after the agent")?;
        ensure!(
            ended.is_none(),
            "the agent ended ({ended:?}):\n{}",
            self.log()
        );
        answered.with_context(|| self.log())
    }

    /// Whether anybody would hear the command line: starting that is what takes its time.
    fn listens(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    /// Whether the command line gets an answer: whatever protocol the two speak.
    fn answers(&self) -> bool {
        self.cli(&["status"]).is_ok_and(|cli| cli.code == 0)
    }

    /// Where its programs are, if they are not this workspace's.
    pub(super) fn programs(&self) -> Option<&Path> {
        self.options.programs.as_deref()
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        socket(self.dir.path())
    }

    /// The directory of its pins.
    pub fn bpffs(&self) -> &Path {
        self.pins.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_else(|error| error.to_string())
    }

    /// The points of `--die-at` that it has reached, in their order, if it is [`Options::traced`];
    /// those of its predecessors come first.
    pub fn reached(&self) -> Vec<String> {
        let log = self.log();
        let points = log.lines().filter_map(|line| line.split_once(REACHED));
        points.map(|(_, point)| point.to_owned()).collect()
    }

    /// What it has logged last.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        format!("The agent's log ends with:\n{last}")
    }

    /// The descriptors that it has open.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn open_fds(&self) -> Result<usize> {
        let dir = format!("/proc/{}/fd", self.pid());
        Ok(fs::read_dir(dir)
            .context("count the agent's descriptors")?
            .count())
    }

    /// The descriptors that it has open when nobody is connected any more: as many for half a
    /// second.
    ///
    /// # Errors
    ///
    /// When their number goes on changing.
    pub fn settled_fds(&self) -> Result<usize> {
        let (mut last, mut since) = (0, Instant::now());
        wait::until("its descriptors do not change", wait::SOON, || {
            let now = self.open_fds().unwrap_or(0);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= 500 * wait::MS
        })?;
        Ok(last)
    }

    /// Its resident memory in KiB, counted page by page: VmRSS of `status` may be off by a batch
    /// for each processor.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        let number = number.with_context(|| format!("{path} has no Rss"))?;
        number.parse().with_context(|| format!("read {number:?}"))
    }

    /// The processor time that it has taken, its ended threads included.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn processor_time(&self) -> Result<Duration> {
        sys::processor_time(self.pid()).context("read the agent's processor time")
    }

    /// How often its threads have gone to sleep.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn sleeps(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may just have ended.
            let text = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
        }
        Ok(sum)
    }

    /// Sends it a signal and, if that ends it, waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within ten seconds.
    pub fn kill(&mut self, signal: Signal) -> Result<()> {
        // Once it has been waited for, its number may be another process's.
        let ended = self.child.try_wait().context("look after the agent")?;
        if ended.is_some() || kill_process(Pid::from_child(&self.child), signal).is_err() {
            return Ok(());
        }
        let child = &mut self.child;
        wait::until("the agent ends", 10 * wait::SECOND, || {
            child.try_wait().is_ok_and(|ended| ended.is_some())
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Best effort: a test that fails must still show its own error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
