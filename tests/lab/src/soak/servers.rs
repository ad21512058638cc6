//! The servers under test: which processes of which generation live, and who has died.

mod flips;
mod waits;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture, Setup,
    kills::Death,
    product::{Generation, Spec},
    wait::{self, SECOND},
};

use crate::command::Interrupt;

/// All processes of the servers, and the agent that they are registered with.
pub(super) struct Servers<'a> {
    /// Those that live, or have not been noticed to have ended.
    processes: Vec<Generation>,
    pub(super) fixture: Fixture,
    interrupt: &'a Interrupt,
    /// The generation that works.
    working: u32,
    /// The latest that was started.
    last: u32,
    /// The servers that were killed.
    pub(super) deaths: Vec<Death>,
    pub(super) agent_deaths: u32,
}

impl<'a> Servers<'a> {
    /// Starts an agent and a generation that works.
    pub(super) fn start(setup: &Setup, interrupt: &'a Interrupt) -> Result<Self> {
        let mut servers = Self {
            processes: Vec::new(),
            fixture: setup.start()?,
            interrupt,
            working: 0,
            last: 0,
            deaths: Vec::new(),
            agent_deaths: 0,
        };
        let first = servers.add(LISTENERS)?;
        servers.wait_working(first)?;
        Ok(servers)
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
    pub(super) fn add(&mut self, listeners: usize) -> Result<u32> {
        self.launch(self.last + 1, listeners, &[])
    }

    /// Starts a generation that never says ready.
    pub(super) fn add_unready(&mut self) -> Result<u32> {
        self.launch(self.last + 1, LISTENERS, &["--never-ready"])
    }

    /// Starts another process of a generation.
    pub(super) fn join(&mut self, number: u32) -> Result<()> {
        self.launch(number, LISTENERS, &[]).map(drop)
    }

    fn launch(&mut self, number: u32, listeners: usize, args: &[&str]) -> Result<u32> {
        let spec = Spec {
            ledger: true,
            ..self.fixture.spec(number, listeners).args(args)
        };
        self.last = self.last.max(number);
        self.processes.push(self.fixture.start(&spec)?);
        Ok(number)
    }

    fn of(&self, number: u32) -> impl Iterator<Item = &Generation> {
        let all = self.processes.iter();
        all.filter(move |one| one.number == number)
    }

    /// Living processes of a generation.
    pub(super) fn processes_of(&self, number: u32) -> usize {
        self.of(number).count()
    }

    /// Sends a signal to one process of a generation.
    pub(super) fn signal_one(&self, number: u32, signal: Signal) -> Result<()> {
        let its = self.of(number).next();
        its.with_context(|| format!("gen{number} has no process"))?
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
        let place = self.processes.iter().position(|one| one.number == number);
        let place = place.with_context(|| format!("gen{number} has no process"))?;
        let death = self.processes.remove(place).kill()?;
        self.deaths.extend(death);
        Ok(())
    }

    /// Kills the agent.
    pub(super) fn kill_agent(&mut self) -> Result<()> {
        self.agent_deaths += 1;
        self.fixture.agent.kill(Signal::KILL)
    }

    /// Starts the agent again and waits until every server is back.
    pub(super) fn restart_agent(&mut self) -> Result<()> {
        self.fixture.restart_agent()?;
        self.settle("every server is back", |servers, service| {
            let mut all = servers.processes.iter();
            let known = service.generations.iter().flat_map(|one| &one.pids);
            all.all(|one| known.clone().any(|pid| *pid == one.pid()))
        })
    }

    /// Notices the servers that have ended as they were told to, and those that were not told.
    pub(super) fn reap(&mut self) -> Result<()> {
        for ended in self.processes.extract_if(.., |one| one.has_ended()) {
            let name = ended.name.clone();
            ensure!(ended.number != self.working, "{name} worked and has ended");
            let exit = ended.wait_exit(SECOND);
            exit.with_context(|| format!("{name} has not ended well"))?;
        }
        Ok(())
    }

    /// Lets time pass.
    pub(super) fn pause(&self, length: Duration) -> Result<()> {
        self.interrupt.check()?;
        wait::pause(length);
        Ok(())
    }
}

/// Of an ordinary process.
pub(super) const LISTENERS: usize = 2;
