//! How does a test ask an agent for something? As operators do, or over its socket.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use synflip_wire::{Certificate, Committed, ServiceStatus, Status};

use crate::product::{Agent, Operator, program_of};

/// What the command line printed and how it ended.
#[derive(Clone, Debug)]
pub struct Cli {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// What `flip --json` prints.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Drained {
    /// The commit.
    pub flip: Committed,
    /// The drain certificate, if it was waited for.
    pub drain: Option<Certificate>,
}

impl Drained {
    /// The drain certificate.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn certificate(&self) -> Result<&Certificate> {
        self.drain.as_ref().context("no certificate")
    }
}

impl Agent {
    /// A command of the command line, with the agent's socket.
    ///
    /// # Errors
    ///
    /// When the program is not built.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program_of(self.programs(), "synflip")?);
        command
            .args(args)
            .env("SYNFLIP_SOCKET", self.socket())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started; its exit code is part of the answer.
    pub fn cli(&self, args: &[&str]) -> Result<Cli> {
        Cli::of(&mut self.command(args)?)
    }

    /// Runs a command to its good end.
    ///
    /// # Errors
    ///
    /// With what the command said, if its exit code is not 0.
    pub fn succeed(&self, args: &[&str]) -> Result<Cli> {
        let cli = self.cli(args)?;
        let Cli {
            code,
            stdout,
            stderr,
        } = &cli;
        ensure!(*code == 0, "{args:?} ended with {code}: {stdout}{stderr}");
        Ok(cli)
    }

    /// `flip --to GENERATION --json`, which must succeed; returns when the old one has drained.
    ///
    /// # Errors
    ///
    /// With what the command said.
    pub fn flip(&self, generation: &str) -> Result<Drained> {
        self.flip_with(generation, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    ///
    /// With what the command said.
    pub fn flip_with(&self, generation: &str, args: &[&str]) -> Result<Drained> {
        let mut all = vec!["flip", "--json", "--to", generation];
        all.extend(args);
        let cli = self.succeed(&all)?;
        serde_json::from_str(&cli.stdout).context("read the output of flip --json")
    }

    /// Has a running process adopted as a generation of `web`.
    ///
    /// # Errors
    ///
    /// When the command cannot be started; its exit code is part of the answer.
    pub fn adopt(&self, pid: u32, generation: &str, args: &[&str]) -> Result<Cli> {
        let pid = pid.to_string();
        let all = ["adopt", "--service=web", "--generation", generation];
        self.cli(&[&all[..], &["--pid", &pid], args].concat())
    }

    /// Lets every user of the machine reach its socket, as if all were in the socket's group.
    ///
    /// # Errors
    ///
    /// When the modes cannot be changed.
    pub fn admit_everybody(&self) -> Result<()> {
        let socket = self.socket();
        let dir = socket.parent().context("a socket is in a directory")?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).context("open the socket")
    }

    /// Its status, as `status --json` shows it: without the command, which tests that wait for
    /// something would start a hundred times.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses.
    pub fn status(&self) -> Result<Status> {
        self.ask(Operator::status)
    }

    /// The status of the only service.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one.
    pub fn service(&self) -> Result<ServiceStatus> {
        self.ask(Operator::service)
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Operator) -> Result<T>) -> Result<T> {
        let mut operator = Operator::new(self)?;
        let answer = question(&mut operator)?;
        // Its descriptors may be what the test is about: the connection is to be over.
        operator.leave()?;
        Ok(answer)
    }

    /// Checks what must always hold of the counters: they add up, and nothing fell back to the
    /// kernel's hash.
    ///
    /// # Errors
    ///
    /// When they do not.
    pub fn check_counters(&self) -> Result<()> {
        for service in self.status()?.services {
            for e in &service.endpoints {
                let sum = e.selected + e.migrated + e.no_table + e.fell_back;
                ensure!(
                    e.runs == sum,
                    "{}: {} runs, outcomes add up to {sum}",
                    e.endpoint,
                    e.runs
                );
                ensure!(
                    e.fell_back == 0,
                    "{}: fell back {} times",
                    e.endpoint,
                    e.fell_back
                );
            }
        }
        Ok(())
    }
}

impl Cli {
    /// Runs a command and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        Ok(command.output().context("run a command")?.into())
    }

    /// The same as a user without any privilege.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn of_nobody(command: &mut Command) -> Result<Self> {
        Self::of(command.uid(NOBODY).gid(NOBODY))
    }
}

/// A user, and a group, without any privilege.
pub const NOBODY: u32 = 65534;

impl From<Output> for Cli {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
