//! How does a test run an agent of its own?

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use tempfile::TempDir;

use crate::{
    Netns,
    product::{Store, program},
    wait,
};

/// How long an agent may take to start, on a slow virtual machine.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long its descriptors may go on changing.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// What differs from an ordinary agent.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More arguments of `synflip agent`.
    pub args: Vec<String>,
    /// Run it in this process's own namespace instead of the server's.
    pub outside: bool,
    /// Where it keeps descriptors that outlive it.
    pub store: Option<Arc<Store>>,
    /// Give it the only capabilities that it needs: CAP_BPF and CAP_NET_ADMIN.
    pub least_privilege: bool,
}

/// An agent with a socket and pins of its own, killed and cleaned up when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    dir: TempDir,
    bpffs: PathBuf,
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
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Relaxed);
        let dir = tempfile::tempdir().context("make a directory for the agent's socket")?;
        synflip_bpf::prepare_bpffs(Path::new(synflip_bpf::DEFAULT_BPFFS))?;
        let name = format!("synflip-test-{}-{number}", std::process::id());
        let bpffs = Path::new(synflip_bpf::DEFAULT_BPFFS).join(name);
        fs::create_dir(&bpffs).with_context(|| format!("create {}", bpffs.display()))?;
        let child = launch(netns, dir.path(), &bpffs, &options)?;
        let mut agent = Self {
            child,
            dir,
            bpffs,
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

    fn launch(&mut self, netns: &Netns) -> Result<()> {
        self.kill(Signal::KILL)?;
        self.child = launch(netns, self.dir.path(), &self.bpffs, &self.options)?;
        Ok(())
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
            self.answers() || self.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        let ended = self.child.try_wait().context("look after the agent")?;
        ensure!(
            ended.is_none(),
            "the agent ended ({ended:?}):\n{}",
            self.log()
        );
        answered.with_context(|| self.log())
    }

    /// Whether the command line gets an answer: whatever protocol the two speak.
    fn answers(&self) -> bool {
        self.cli(&["status"]).is_ok_and(|cli| cli.code == 0)
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        socket(self.dir.path())
    }

    /// The directory of its pins.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_else(|error| error.to_string())
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
    /// When their number changes for 20 seconds.
    pub fn settled_fds(&self) -> Result<usize> {
        let (mut last, mut since) = (0, Instant::now());
        wait::until("its descriptors do not change", SETTLES_WITHIN, || {
            let now = self.open_fds().unwrap_or(0);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= Duration::from_millis(500)
        })?;
        Ok(last)
    }

    /// Its resident memory, in KiB.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .context("no VmRSS")?
            .parse()
            .context("VmRSS is no number")
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
        wait::until("the agent ends", Duration::from_secs(10), || {
            child.try_wait().is_ok_and(|ended| ended.is_some())
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Best effort: a test that fails must still show its own error.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.bpffs));
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("agent.sock")
}

/// Leaves this thread's children no capability but those that an agent needs.
fn drop_capabilities() -> io::Result<()> {
    let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
    for capability in CapabilitySet::all().difference(kept) {
        match remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it cannot give it either.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn launch(netns: &Netns, dir: &Path, bpffs: &Path, options: &Options) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let synflip = program("synflip")?;
    let (mut command, passing) = match &options.store {
        Some(store) => {
            let (command, to) = store.activate(&synflip)?;
            (command, Some((store, to)))
        }
        None => (Command::new(synflip), None),
    };
    if passing.is_none() {
        command.stdin(Stdio::null());
    }
    command
        .arg("agent")
        .arg("--bpffs")
        .arg(bpffs)
        .arg("--socket")
        .arg(socket(dir));
    command.args(&options.args);
    command
        .env("RUST_LOG", "debug")
        .stdout(Stdio::null())
        .stderr(log);
    let started: io::Result<Child> = if options.outside {
        command.spawn()
    } else {
        netns.run(|| {
            if options.least_privilege {
                drop_capabilities()?;
            }
            command.spawn()
        })
    };
    let started = started.context("start the agent")?;
    if let Some((store, to)) = passing {
        store.pass_on(&to)?;
    }
    Ok(started)
}
