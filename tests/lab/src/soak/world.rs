//! The service under test: an agent, its servers, and what is known of them.

mod flips;
mod waits;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_wire::{Name, ServiceStatus};

use crate::{command::Interrupt, stage::Stage};
use synflip_bed::{
    kills::Death,
    product::{Agent, Generation, Operator, Spec},
    wait,
};

/// An agent and all processes of its servers.
pub(super) struct World<'a> {
    servers: Vec<Server>,
    operator: Option<Operator>,
    pub(super) agent: Agent,
    stage: &'a Stage,
    interrupt: &'a Interrupt,
    /// The generation that works.
    working: u32,
    /// The latest that was started.
    last: u32,
    processes: u32,
    /// The servers that were killed.
    pub(super) deaths: Vec<Death>,
    pub(super) agent_deaths: u32,
}

/// One process of a generation.
struct Server {
    number: u32,
    listeners: usize,
    process: Generation,
}

impl<'a> World<'a> {
    /// Starts an agent and a generation that works.
    pub(super) fn new(stage: &'a Stage, interrupt: &'a Interrupt) -> Result<Self> {
        let mut world = Self {
            servers: Vec::new(),
            operator: None,
            agent: Agent::start(&stage.server)?,
            stage,
            interrupt,
            working: 0,
            last: 0,
            processes: 0,
            deaths: Vec::new(),
            agent_deaths: 0,
        };
        let first = world.start(LISTENERS)?;
        world.wait_working(first)?;
        Ok(world)
    }

    /// The number of the generation that works.
    pub(super) const fn working(&self) -> u32 {
        self.working
    }

    /// From now on this is the generation that must not go, whether or not it works yet.
    pub(super) const fn turn_to(&mut self, number: u32) {
        self.working = number;
    }

    /// Starts a generation, and waits until it is ready; returns its number.
    pub(super) fn start(&mut self, listeners: usize) -> Result<u32> {
        self.launch(listeners, &[])
    }

    /// Starts a generation that never says ready.
    pub(super) fn start_unready(&mut self) -> Result<u32> {
        self.launch(LISTENERS, &["--never-ready"])
    }

    fn launch(&mut self, listeners: usize, args: &[&str]) -> Result<u32> {
        self.last += 1;
        let spec = Spec::new(self.last, self.stage.address(), listeners);
        let spec = args.iter().fold(spec, |spec, arg| spec.arg(arg));
        self.process(spec)?;
        Ok(self.last)
    }

    /// Starts another process of a generation.
    pub(super) fn join(&mut self, number: u32) -> Result<()> {
        let spec = Spec::new(number, self.stage.address(), LISTENERS);
        self.process(spec)
    }

    fn process(&mut self, spec: Spec) -> Result<()> {
        self.processes += 1;
        let ledger = self
            .stage
            .dir
            .path()
            .join(format!("ledger-{}", self.processes));
        let spec = Spec {
            ledger: Some(ledger),
            ..spec
        };
        let process = Generation::start(&self.stage.server, &self.agent, &spec)?;
        self.servers.push(Server {
            number: spec.number,
            listeners: spec.listeners,
            process,
        });
        Ok(())
    }

    /// Living processes of a generation.
    pub(super) fn processes_of(&self, number: u32) -> usize {
        self.servers
            .iter()
            .filter(|server| server.number == number)
            .count()
    }

    /// Sends a signal to one process of a generation.
    pub(super) fn signal_one(&self, number: u32, signal: Signal) -> Result<()> {
        let mut its = self.servers.iter().filter(|server| server.number == number);
        its.next()
            .with_context(|| format!("gen{number} has no process"))?
            .process
            .signal(signal)
    }

    /// Kills all processes of a generation.
    pub(super) fn kill(&mut self, number: u32) -> Result<()> {
        while self.processes_of(number) > 0 {
            self.kill_one(number)?;
        }
        Ok(())
    }

    /// Kills the process of a generation that was started first.
    pub(super) fn kill_one(&mut self, number: u32) -> Result<()> {
        let place = self
            .servers
            .iter()
            .position(|server| server.number == number);
        let place = place.with_context(|| format!("gen{number} has no process"))?;
        let death = self.servers.remove(place).process.kill()?;
        self.deaths.extend(death);
        Ok(())
    }

    /// Kills the agent.
    pub(super) fn kill_agent(&mut self) -> Result<()> {
        self.operator = None;
        self.agent_deaths += 1;
        self.agent.kill(Signal::KILL)
    }

    /// Starts the agent again and waits until every server is back.
    pub(super) fn restart_agent(&mut self) -> Result<()> {
        self.agent.restart(&self.stage.server)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            // Those that had drained end meanwhile.
            self.reap()?;
            let pids: Vec<u32> = self
                .servers
                .iter()
                .map(|server| server.process.pid())
                .collect();
            let service = self.service()?;
            let back: Vec<u32> = service
                .generations
                .iter()
                .flat_map(|one| &one.pids)
                .copied()
                .collect();
            if pids.iter().all(|pid| back.contains(pid)) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "servers {pids:?} are not back: {service:#?}"
            );
            self.pause(TICK)?;
        }
    }

    /// Notices the servers that have ended as they were told to, and those that were not told.
    pub(super) fn reap(&mut self) -> Result<()> {
        let working = self.working;
        let ended: Vec<Server> = self
            .servers
            .extract_if(.., |one| one.process.has_ended())
            .collect();
        for server in ended {
            let name = server.process.name.clone();
            ensure!(server.number != working, "{name} worked and has ended");
            let exit = server.process.wait_exit(Duration::from_secs(1));
            exit.with_context(|| format!("{name} has not ended well"))?;
        }
        Ok(())
    }

    /// What the agent has said last.
    pub(super) fn last_words(&self) -> String {
        let log = self.agent.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("The agent's log ends with:\n{last}")
    }

    /// Lets time pass.
    pub(super) fn pause(&self, length: Duration) -> Result<()> {
        self.interrupt.check()?;
        wait::pause(length);
        Ok(())
    }
}

/// The name of a generation.
pub(super) fn name(number: u32) -> String {
    format!("gen{number}")
}

pub(super) fn works(service: &ServiceStatus, number: u32) -> bool {
    service.working.as_ref().map(Name::as_str) == Some(&name(number))
}

/// Of an ordinary process.
pub(super) const LISTENERS: usize = 2;
/// For what takes milliseconds, on a slow virtual machine, and for drains that wait for a
/// retransmission.
const LIMIT: Duration = Duration::from_secs(60);
/// Of the agent's log, in an error.
const LOG_LINES: usize = 30;
const TICK: Duration = Duration::from_millis(2);
