//! How does a test run one generation of a server?

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, de::DeserializeOwned};
use tempfile::NamedTempFile;

use crate::{
    Netns,
    kills::Death,
    ledger::Ledger,
    load::monotonic_us,
    product::{Agent, program_of},
    wait::{self, SOON},
};

/// How a generation is to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Listeners on each address.
    pub listeners: usize,
    /// Its number, which its answers carry; its name is `gen` and this.
    pub number: u32,
    /// Another name: that of a generation which it joins.
    pub joins: Option<String>,
    /// Whether it starts without an agent, too, and registers when there is one.
    pub without_agent: bool,
    /// More arguments of `synflip-server`.
    pub args: Vec<String>,
    /// Whether it keeps a ledger, in case it is killed under load.
    pub ledger: bool,
    /// The program, which has the arguments of `synflip-server`.
    pub program: String,
    /// Where that is, if it is another commit's.
    pub programs: Option<PathBuf>,
    /// The user and the group that it runs as, if not as this process does.
    pub uid: Option<u32>,
}

impl Spec {
    /// A generation with `listeners` on one address.
    pub fn new(number: u32, listen: SocketAddr, listeners: usize) -> Self {
        Self {
            listen: vec![listen],
            listeners,
            number,
            joins: None,
            without_agent: false,
            args: Vec::new(),
            ledger: false,
            program: "synflip-server".into(),
            programs: None,
            uid: None,
        }
    }

    /// Makes it another process of an earlier generation.
    #[must_use]
    pub fn joins(mut self, generation: &str) -> Self {
        self.joins = Some(generation.into());
        self
    }

    /// Has another user run it, in the group of the same number.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Makes it another program, which has the arguments of `synflip-server`.
    #[must_use]
    pub fn program(mut self, name: &str) -> Self {
        self.program = name.into();
        self
    }

    /// Has a program of another commit run, which is in this directory.
    #[must_use]
    pub fn programs(mut self, dir: &Path) -> Self {
        self.programs = Some(dir.to_path_buf());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        args.iter().fold(self, |spec, arg| spec.arg(arg))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.joins.clone().unwrap_or_else(|| name(self.number))
    }
}

/// The name of a generation.
pub fn name(number: u32) -> String {
    format!("gen{number}")
}

/// A running generation: one process, killed when dropped.
#[derive(Debug)]
pub struct Generation {
    child: Child,
    // Its end tells a plain server to stop.
    _stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    ledger: Option<Ledger>,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// How many listeners it has.
    pub listeners: usize,
}

/// What a server says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Exit {
    /// Connections it has accepted.
    pub accepted: u64,
    /// Of these: answered.
    pub served: u64,
}

impl Generation {
    /// Starts a server that registers with the agent, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn start(netns: &Netns, agent: &Agent, spec: &Spec) -> Result<Self> {
        let mut command = command(spec, spec.programs.as_deref().or_else(|| agent.programs()))?;
        command.arg("--generation").arg(spec.name());
        command.arg("--socket").arg(agent.socket());
        if !spec.without_agent {
            command.arg("--require-agent");
        }
        Self::launch(netns, command, spec).with_context(|| agent.log())
    }

    /// Starts a server that does without synflip: plain SO_REUSEPORT.
    ///
    /// # Errors
    ///
    /// When it is not ready in time.
    pub fn start_plain(netns: &Netns, spec: &Spec) -> Result<Self> {
        let mut command = command(spec, spec.programs.as_deref())?;
        command.arg("--plain");
        Self::launch(netns, command, spec)
    }

    fn launch(netns: &Netns, mut command: Command, spec: &Spec) -> Result<Self> {
        // Once both have it open, it needs no name any more, and no room once both are gone.
        let file = spec.ledger.then(NamedTempFile::new).transpose()?;
        let ledger = file.as_ref().map(|file| {
            command.arg("--ledger").arg(file.path());
            Ledger::create(file.path())
        });
        let ledger = ledger.transpose()?;
        // Where any user may execute it, until it runs.
        let copy = spec.uid.map(|_| tempfile::tempdir()).transpose()?;
        if let (Some(uid), Some(dir)) = (spec.uid, &copy) {
            command = as_user(&command, uid, dir.path())?;
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = netns.spawn(&mut command).context("start a server")?;
        let stdin = child.stdin.take();
        let lines = child
            .stdout
            .take()
            .map(lines)
            .context("a pipe was asked for")?;
        let mut generation = Self {
            child,
            _stdin: stdin,
            lines,
            ledger,
            name: spec.name(),
            number: spec.number,
            listeners: 0,
        };
        #[derive(Deserialize)]
        struct Ready {
            listeners: usize,
        }
        let ready = generation.line::<Ready>(SOON);
        generation.listeners = ready
            .with_context(|| format!("start {}", spec.name()))?
            .listeners;
        Ok(generation)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("signal {}", self.name))
    }

    /// Kills it, waits until nothing is left of it, and reads its ledger if it has one.
    ///
    /// None if it had ended by itself.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<Option<Death>> {
        let begun_us = monotonic_us();
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        let ended = self
            .child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        Ok(ended.signal().map(|_| Death {
            begun_us,
            ended_us: monotonic_us(),
            account: self.ledger.as_ref().map(Ledger::read).unwrap_or_default(),
        }))
    }

    /// Tells it to end, and waits until it has; returns what it said.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn stop(self) -> Result<Exit> {
        self.signal(Signal::TERM)?;
        self.wait_exit(SOON)
    }

    /// Whether it has ended, without waiting.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Waits until it has ended by itself, and returns what it said.
    ///
    /// # Errors
    ///
    /// When it has not within `limit`.
    pub fn wait_exit(mut self, limit: Duration) -> Result<Exit> {
        let exit = self
            .line(limit)
            .with_context(|| format!("{} ends by itself", self.name))?;
        let child = &mut self.child;
        wait::until("the server's process ends", limit, || {
            child.try_wait().is_ok_and(|ended| ended.is_some())
        })?;
        Ok(exit)
    }

    /// The next line it prints, as JSON.
    fn line<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("read {line:?}")),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("{} said nothing in {limit:?}", self.name)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("{} has ended", self.name),
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // Best effort: a test that fails must still show its own error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(spec: &Spec, programs: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(program_of(programs, &spec.program)?);
    command.arg("--listeners").arg(spec.listeners.to_string());
    command.arg("--number").arg(spec.number.to_string());
    for address in &spec.listen {
        command.arg("--listen").arg(address.to_string());
    }
    command.args(&spec.args);
    Ok(command)
}

/// The same command, for another user and in the group of the same number.
fn as_user(command: &Command, uid: u32, dir: &Path) -> Result<Command> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    let program = dir.join("server");
    fs::copy(command.get_program(), &program).context("copy the program")?;
    let mut theirs = Command::new(program);
    theirs.args(command.get_args()).uid(uid).gid(uid);
    Ok(theirs)
}

/// Reads what a process prints on a thread of its own, so that waiting for one can have a deadline.
pub fn lines(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
