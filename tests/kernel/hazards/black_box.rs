//! The product as anyone sees it: commands, their JSON, and clients that count what they get.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use synflip_bed::{
    Fixture, Network,
    network::{REQUEST, generation_of},
    product::{Agent, Cli, Generation},
    wait::{self, MS, SECOND, SOON},
};

/// What an operator does with an agent.
pub(crate) trait Operate {
    /// Runs a command, which must succeed; returns the document that it prints.
    fn told(&self, args: &[&str]) -> Result<Value>;
    /// Runs a command, however it ends.
    fn tried(&self, args: &[&str]) -> Result<Cli>;
    /// The only service, as `synflip status --json` shows it.
    fn look(&self) -> Result<Value>;
    /// Waits until the only service is as wanted.
    fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value>;
    /// Waits until new connections go to a generation.
    fn wait_works(&self, generation: &str) -> Result<Value> {
        self.wait_until(&format!("{generation} works"), |s| works(s, generation))
    }
}

impl Operate for Agent {
    fn told(&self, args: &[&str]) -> Result<Value> {
        let cli = self.cli(args)?;
        ensure!(cli.code == 0, "{args:?}: {cli:?}");
        serde_json::from_str(&cli.stdout).with_context(|| format!("{args:?} printed {cli:?}"))
    }

    fn tried(&self, args: &[&str]) -> Result<Cli> {
        self.cli(args)
    }

    fn look(&self) -> Result<Value> {
        let status = self.told(&["status", "--json"])?;
        let services = status["services"].as_array().context("no services")?;
        ensure!(services.len() == 1, "not one service: {status:#}");
        Ok(services[0].clone())
    }

    fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let waited = wait::until(what, SOON, || {
            last = self.look().ok();
            last.as_ref().is_some_and(&wanted)
        });
        waited.with_context(|| format!("{last:#?}\n{}", self.log()))?;
        last.context("no status")
    }
}

/// Whether new connections go to a generation.
pub(crate) fn works(service: &Value, generation: &str) -> bool {
    service["working"] == generation
}

/// The address of a second port.
pub(crate) fn second_port(net: &Network) -> SocketAddr {
    SocketAddr::new(net.address.ip(), net.address.port() + 1)
}

/// Starts a server that links the helper, and waits until its generation works.
pub(crate) fn first(fixture: &Fixture, args: &[&str]) -> Result<Generation> {
    let first = fixture.start(&fixture.spec(1, 2).args(args))?;
    fixture.agent.wait_works(&first.name)?;
    Ok(first)
}

/// What clients get that ask all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// The generations that have answered.
    pub(crate) by: Vec<u32>,
    /// Connections that were refused or reset.
    pub(crate) reset: usize,
    /// Connections that were not answered in time.
    pub(crate) hung: usize,
}

impl Answers {
    /// Connections that were not answered.
    pub(crate) fn lost(&self) -> usize {
        self.reset + self.hung
    }

    /// Connections that a generation has answered.
    pub(crate) fn from(&self, number: u32) -> usize {
        self.by.iter().filter(|by| **by == number).count()
    }

    fn add(&mut self, end: Result<u32, ErrorKind>) -> Result<()> {
        match end {
            Ok(generation) => self.by.push(generation),
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => self.hung += 1,
            Err(
                ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe,
            ) => self.reset += 1,
            Err(other) => return Err(anyhow!("a client failed: {other}")),
        }
        Ok(())
    }
}

/// Has so many clients connect at once, each of which waits that long.
pub(crate) fn ask(net: &Network, count: usize, limit: Duration) -> Result<Answers> {
    ask_at(net, net.address, count, limit)
}

/// The same at another address.
pub(crate) fn ask_at(
    net: &Network,
    address: SocketAddr,
    count: usize,
    limit: Duration,
) -> Result<Answers> {
    let one = || -> Result<u32, ErrorKind> {
        let stream = TcpStream::connect_timeout(&address, limit).map_err(|error| error.kind())?;
        (&stream).write_all(REQUEST).map_err(|error| error.kind())?;
        answered(stream, limit)
    };
    let ends: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| net.client.run(one)))
            .collect();
        clients.into_iter().map(|client| client.join()).collect()
    });
    let mut answers = Answers::default();
    for end in ends {
        answers.add(end.map_err(|_panic| anyhow!("a client has panicked"))?)?;
    }
    Ok(answers)
}

/// What clients get that have sent their requests before, and wait that long together.
pub(crate) fn await_all(clients: Vec<TcpStream>, limit: Duration) -> Result<Answers> {
    let deadline = Instant::now() + limit;
    let mut answers = Answers::default();
    for client in clients {
        let left = deadline.saturating_duration_since(Instant::now());
        answers.add(answered(client, left.max(MS)))?;
    }
    Ok(answers)
}

/// Waits for an answer: the number of the generation that gave it.
fn answered(mut stream: TcpStream, limit: Duration) -> Result<u32, ErrorKind> {
    let mut answer = [0; 16];
    let read = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.read_exact(&mut answer));
    read.map_err(|error| error.kind())?;
    generation_of(&answer).map_err(|_other| ErrorKind::InvalidData)
}

/// How long a client waits that ought to be answered at once.
pub(crate) const PATIENCE: Duration = SECOND.saturating_mul(2);
