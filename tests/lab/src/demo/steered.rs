//! Generations replaced with synflip.

mod command;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use synflip_wire::{Name, Phase, ServiceStatus};

use super::{
    drive::{Finished, Method},
    half::Counters,
    kill::Victim,
    latency::Window,
    options::Settings,
};
use crate::{command::Interrupt, stage::Stage};
use command::Command;
use synflip_bed::{
    Netns,
    kills::Death,
    load::monotonic_us,
    product::{Agent, Generation, Operator, Spec},
    wait,
};

/// An agent and the generations it steers.
///
/// Dropped in the order of the fields: commands, servers, agent.
pub(super) struct Steered<'a> {
    running: Vec<Command>,
    takeovers: Vec<Takeover>,
    operator: Operator,
    /// All there were: the old ones end by themselves, and are asked at the end whether they did.
    generations: Vec<Generation>,
    agent: Agent,
    stage: &'a Stage,
    settings: &'a Settings,
}

impl<'a> Steered<'a> {
    /// Starts an agent and the first generation.
    pub(super) fn start(stage: &'a Stage, settings: &'a Settings) -> Result<Self> {
        let agent = Agent::start(&stage.server)?;
        let mut steered = Self {
            running: Vec::new(),
            takeovers: Vec::new(),
            operator: Operator::new(&agent)?,
            generations: Vec::new(),
            agent,
            stage,
            settings,
        };
        steered.launch(1)?;
        Ok(steered)
    }

    fn launch(&mut self, number: u32) -> Result<()> {
        let listeners = self.settings.listeners_of(number);
        let spec = Spec {
            ledger: self.settings.ledger(self.stage, number),
            ..Spec::new(number, self.stage.address(), listeners)
        };
        let generation = Generation::start(self.netns(), &self.agent, &spec)?;
        self.generations.push(generation);
        Ok(())
    }

    /// Kills a generation; nothing has died if it had ended before.
    fn kill(&mut self, number: u32) -> Result<Option<Death>> {
        let name = format!("gen{number}");
        let its_place = self.generations.iter().position(|one| one.name == name);
        let place = its_place.with_context(|| format!("{name} was not started"))?;
        self.generations.remove(place).kill()
    }

    /// An error, and what the agent said last.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let log = self.agent.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow!("{error:#}\nThe agent's log ends with:\n{last}")
    }

    fn netns(&self) -> &Netns {
        &self.stage.server
    }

    /// Waits for the end of the old servers and reads the counters; also says what was not as
    /// it must be.
    pub(super) fn finish(mut self, interrupt: &Interrupt) -> Result<(Counters, Vec<String>)> {
        let mut problems = Vec::new();
        let last = self.generations.pop();
        for mut old in self.generations.drain(..) {
            let name = old.name.clone();
            let mut interrupted = Ok(());
            let ended = wait::until("its end", ENDS_WITHIN, || {
                interrupted = interrupt.check();
                interrupted.is_err() || old.has_ended()
            });
            interrupted?;
            if ended.is_err() {
                problems.push(format!("{name} was told to close and did not end"));
            } else if let Err(error) = old.wait_exit(Duration::from_secs(1)) {
                problems.push(format!("{name} did not end well: {error:#}"));
            }
        }
        if let Err(error) = self.agent.check_counters() {
            problems.push(format!("counters: {error:#}"));
        }
        let mut counters = Counters::default();
        for endpoint in self.agent.service()?.endpoints {
            counters.runs += endpoint.runs;
            counters.selected += endpoint.selected;
            counters.migrated += endpoint.migrated;
            counters.no_table += endpoint.no_table;
            counters.fell_back += endpoint.fell_back;
        }
        drop(last);
        Ok((counters, problems))
    }
}

impl Method for Steered<'_> {
    fn begin(&mut self, to: u32, kill: Option<Victim>) -> Result<Option<(Phase, Death)>> {
        self.launch(to)?;
        if kill == Some(Victim::Working) {
            let begun_us = monotonic_us();
            self.takeovers.push(Takeover { to, begun_us });
            let death = self.kill(to - 1)?;
            return Ok(death.map(|death| (Phase::Working, death)));
        }
        let mut command = Command::start(&self.agent, self.stage.dir.path(), to)?;
        let mut phase = None;
        if kill.is_some() {
            wait::until("the flip commits", COMMITS_WITHIN, || {
                let service = self
                    .operator
                    .service()
                    .ok()
                    .filter(|s| working(s) == Some(to));
                phase = service.map(|service| phase_of(&service, to - 1));
                // Why it ended without a commit is told by whoever looks after it.
                phase.is_some() || command.has_ended()
            })?;
        }
        self.running.push(command);
        let Some(phase) = phase else { return Ok(None) };
        let death = self.kill(to - 1)?;
        Ok(death.map(|death| (phase, death)))
    }

    /// A flip may begin while earlier generations are draining, but not before it is known which
    /// one it replaces.
    fn may_begin(&mut self) -> Result<bool> {
        if self.unfinished() == 0 {
            return Ok(true);
        }
        let working = self.operator.service()?.working;
        let latest = self.generations.last().map(|latest| latest.name.as_str());
        Ok(working.as_ref().map(Name::as_str) == latest)
    }

    fn finished(&mut self) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for mut command in std::mem::take(&mut self.running) {
            match command.poll().map_err(|error| self.explain(&error))? {
                Some(flip) => finished.push(flip),
                None => self.running.push(command),
            }
        }
        if !self.takeovers.is_empty() {
            let service = self.operator.service()?;
            let over = self
                .takeovers
                .extract_if(.., |takeover| takeover.is_over(&service));
            finished.extend(over.map(Takeover::finish));
        }
        Ok(finished)
    }

    fn unfinished(&self) -> usize {
        self.running.len() + self.takeovers.len()
    }

    fn undrained(&self) -> &'static str {
        "the next one took over"
    }
}

/// A generation that takes the place of a killed one by itself.
struct Takeover {
    to: u32,
    begun_us: u64,
}

impl Takeover {
    /// Whether it works, or has worked, and nothing is left of the one before it.
    fn is_over(&self, service: &ServiceStatus) -> bool {
        let mut left = service
            .generations
            .iter()
            .filter_map(|one| number(&one.name));
        // The next flip may begin before the killed one's last handshake has ended.
        working(service) >= Some(self.to) && left.all(|number| number != self.to - 1)
    }

    fn finish(self) -> Finished {
        Finished {
            from: self.to - 1,
            window: Window {
                begun_us: self.begun_us,
                ended_us: monotonic_us(),
            },
            drain: None,
        }
    }
}

/// What a generation is doing; one that the agent has forgotten had drained.
fn phase_of(service: &ServiceStatus, of: u32) -> Phase {
    let mut generations = service.generations.iter();
    let one = generations.find(|one| number(&one.name) == Some(of));
    one.map_or(Phase::Drained, |one| one.phase)
}

/// The number of the generation that works.
fn working(service: &ServiceStatus) -> Option<u32> {
    service.working.as_ref().and_then(number)
}

fn number(generation: &Name) -> Option<u32> {
    generation.as_str().strip_prefix("gen")?.parse().ok()
}

/// On a slow virtual machine.
const COMMITS_WITHIN: Duration = Duration::from_secs(30);
/// Of the agent's log, in an error.
const LOG_LINES: usize = 20;
/// Longer than a server waits for its last clients.
const ENDS_WITHIN: Duration = Duration::from_secs(35);
