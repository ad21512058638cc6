//! What most tests begin with: hosts, the line between them, and an agent. Servers and clients
//! come as a test goes on.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use synflip_bed::{Fixture, Line, Setup};
//!
//! let fixture = Setup::new().line(Line::Raw).start()?;
//! let _old = fixture.first(&[])?;                    // gen1, with two listeners, works
//! let mut held = fixture.net.half_open(1)?;          // a handshake without its last step
//! let _new = fixture.generation(2, &[])?;            // gen2 is ready
//! let mut flip = fixture.agent.begin_flip("gen2")?;  // returns when gen1 is drained
//! flip.still_runs()?;
//! # Ok(()) }
//! ```

mod waits;

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};

use crate::{
    Family,
    network::{Line, Network},
    product::{Agent, Generation, Options, Spec, Store},
};

pub use waits::{find, works};

/// How a test's hosts and its agent differ from ordinary ones.
#[derive(Clone, Debug)]
pub struct Setup {
    family: Family,
    line: Line,
    sysctls: Vec<(String, String)>,
    agent: Options,
}

impl Setup {
    /// One host, IPv4, an ordinary agent.
    pub fn new() -> Self {
        Self {
            family: Family::V4,
            line: Line::default(),
            sysctls: Vec::new(),
            agent: Options::default(),
        }
    }

    /// Over another IP version.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// With something between clients and servers.
    #[must_use]
    pub fn line(mut self, line: Line) -> Self {
        self.line = line;
        self
    }

    /// With a parameter of the server's network, set before anything begins.
    #[must_use]
    pub fn sysctl(mut self, key: &str, value: &str) -> Self {
        self.sysctls.push((key.into(), value.into()));
        self
    }

    /// With more arguments for the agent.
    #[must_use]
    pub fn agent_args(mut self, args: &[&str]) -> Self {
        self.agent.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// With an agent that is in this process's namespace, not in the servers'.
    #[must_use]
    pub fn agent_outside(mut self) -> Self {
        self.agent.outside = true;
        self
    }

    /// With an agent that has CAP_BPF and CAP_NET_ADMIN, and no other capability.
    #[must_use]
    pub fn agent_least_privileged(mut self) -> Self {
        self.agent.least_privilege = true;
        self
    }

    /// With an agent that logs the points that it could be killed at.
    #[must_use]
    pub fn agent_traced(mut self) -> Self {
        self.agent.traced = true;
        self
    }

    /// With systemd's descriptor store for the agent.
    #[must_use]
    pub fn store(mut self, store: &Arc<Store>) -> Self {
        self.agent.store = Some(Arc::clone(store));
        self
    }

    /// With the agent, the command line and the servers of another commit, which are in this
    /// directory; without, with those of this workspace.
    #[must_use]
    pub fn programs(mut self, dir: Option<&Path>) -> Self {
        self.agent.programs = dir.map(Path::to_path_buf);
        self
    }

    /// The hosts and the line alone: for servers that do without synflip.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn network(&self) -> Result<Network> {
        let net = Network::new(self.family, self.line)?;
        for (key, value) in &self.sysctls {
            net.server.sysctl(key, value)?;
        }
        Ok(net)
    }

    /// The hosts, the line, and an agent that answers.
    ///
    /// # Errors
    ///
    /// When one of them cannot be had.
    pub fn start(&self) -> Result<Fixture> {
        let net = self.network()?;
        let agent = Agent::start_with(&net.server, self.agent.clone())?;
        Ok(Fixture { agent, net })
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// Hosts, the line between them, and an agent.
#[derive(Debug)]
pub struct Fixture {
    // It ends before its host does.
    /// The agent, on the servers' host, and the commands that talk to it.
    pub agent: Agent,
    /// The hosts, and the clients.
    pub net: Network,
}

impl Fixture {
    /// One host, IPv4, an ordinary agent.
    ///
    /// # Errors
    ///
    /// When they cannot be had.
    pub fn new() -> Result<Self> {
        Setup::new().start()
    }

    /// How generation `number` runs, with so many listeners.
    pub fn spec(&self, number: u32, listeners: usize) -> Spec {
        self.net.spec(number, listeners)
    }

    /// Starts a server; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it is not ready in time.
    pub fn start(&self, spec: &Spec) -> Result<Generation> {
        Generation::start(&self.net.server, &self.agent, spec)
    }

    /// Starts generation `number` with two listeners, and more arguments of `synflip-server`.
    ///
    /// # Errors
    ///
    /// When it is not ready in time.
    pub fn generation(&self, number: u32, args: &[&str]) -> Result<Generation> {
        self.start(&self.spec(number, 2).args(args))
    }

    /// Starts the first generation, and waits until new connections go to it.
    ///
    /// # Errors
    ///
    /// When they do not.
    pub fn first(&self, args: &[&str]) -> Result<Generation> {
        self.start_working(&self.spec(1, 2).args(args))
    }

    /// Starts a generation that is to be the first, and waits until new connections go to it.
    ///
    /// # Errors
    ///
    /// When they do not.
    pub fn start_working(&self, spec: &Spec) -> Result<Generation> {
        let generation = self.start(spec)?;
        self.wait_works(&generation.name)?;
        Ok(generation)
    }

    /// Starts a server that links nothing, and has it adopted as the generation of its name.
    ///
    /// # Errors
    ///
    /// When it is not ready in time, or refused.
    pub fn adopted(&self, spec: &Spec) -> Result<Generation> {
        let server = self.net.plain(spec)?;
        let cli = self.agent.adopt(server.pid(), &server.name, &[])?;
        ensure!(cli.code == 0, "{cli:?}");
        Ok(server)
    }

    /// Starts a dead agent again.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn restart_agent(&mut self) -> Result<()> {
        self.agent.restart(&self.net.server)
    }

    /// Checks that so many connections went through the program, and none past it.
    ///
    /// # Errors
    ///
    /// When the program's counters say otherwise.
    pub fn check_steered(&self, connections: u64) -> Result<()> {
        self.agent.check_counters()?;
        let endpoints = self.agent.service()?.endpoints;
        let selected: u64 = endpoints.iter().map(|endpoint| endpoint.selected).sum();
        ensure!(
            selected >= connections,
            "{connections} connections: {endpoints:?}"
        );
        Ok(())
    }
}
