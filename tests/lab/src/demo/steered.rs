//! Generations replaced with synflip.

mod command;

use std::time::Duration;

use anyhow::{Context as _, Result};
use synflip_bed::{
    Fixture,
    fixture::{find, works},
    kills::Death,
    load::monotonic_us,
    product::{Generation, Operator, name},
    wait::{self, SECOND, SOON},
};
use synflip_wire::{Name, Phase, ServiceStatus};

use super::{
    drive::{Finished, Method},
    half::Counters,
    kill::Victim,
    latency::Window,
    options::Settings,
};
use crate::command::Interrupt;
use command::Command;

/// The generations that an agent steers.
///
/// Dropped in the order of the fields: commands, then servers.
pub(super) struct Steered<'a> {
    running: Vec<Command>,
    takeovers: Vec<Takeover>,
    operator: Operator,
    /// All there were: the old ones end by themselves, and are asked at the end whether they did.
    generations: Vec<Generation>,
    fixture: &'a Fixture,
    settings: &'a Settings,
}

impl<'a> Steered<'a> {
    /// Starts the first generation.
    pub(super) fn start(fixture: &'a Fixture, settings: &'a Settings) -> Result<Self> {
        let mut steered = Self {
            running: Vec::new(),
            takeovers: Vec::new(),
            operator: Operator::new(&fixture.agent)?,
            generations: Vec::new(),
            fixture,
            settings,
        };
        steered.launch(1)?;
        Ok(steered)
    }

    fn launch(&mut self, number: u32) -> Result<()> {
        let spec = self.settings.spec(&self.fixture.net, number);
        self.generations.push(self.fixture.start(&spec)?);
        Ok(())
    }

    /// Kills a generation; nothing has died if it had ended before.
    fn kill(&mut self, number: u32) -> Result<Option<Death>> {
        let its_place = self.generations.iter().position(|one| one.number == number);
        let place = its_place.with_context(|| format!("gen{number} was not started"))?;
        self.generations.remove(place).kill()
    }

    /// Waits for the end of the old servers and reads the counters; also says what was not as
    /// it must be.
    pub(super) fn finish(mut self, interrupt: &Interrupt) -> Result<(Counters, Vec<String>)> {
        let mut problems = Vec::new();
        let last = self.generations.pop();
        for mut old in self.generations.drain(..) {
            let name = old.name.clone();
            let ended = interrupt.until("its end", ENDS_WITHIN, || Ok(old.has_ended()));
            interrupt.check()?;
            if ended.is_err() {
                problems.push(format!("{name} was told to close and did not end"));
            } else if let Err(error) = old.wait_exit(SECOND) {
                problems.push(format!("{name} did not end well: {error:#}"));
            }
        }
        if let Err(error) = self.fixture.agent.check_counters() {
            problems.push(format!("counters: {error:#}"));
        }
        let mut counters = Counters::default();
        for endpoint in self.fixture.agent.service()?.endpoints {
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
        let mut command = Command::start(&self.fixture.agent, to)?;
        let mut phase = None;
        if kill.is_some() {
            wait::until("the flip commits", SOON, || {
                let service = self.operator.service().ok();
                let committed = service.filter(|service| works(service, &name(to)));
                phase = committed.map(|service| phase_of(&service, to - 1));
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
        let service = self.operator.service()?;
        let latest = self.generations.last();
        Ok(latest.is_some_and(|latest| works(&service, &latest.name)))
    }

    fn finished(&mut self) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for mut command in std::mem::take(&mut self.running) {
            if command.has_ended() {
                let flip = command.finish();
                finished.push(flip.with_context(|| self.fixture.agent.last_words())?);
            } else {
                self.running.push(command);
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
        let number = |name: &Name| name.as_str().strip_prefix("gen")?.parse().ok();
        let working: Option<u32> = service.working.as_ref().and_then(number);
        // The next flip may begin before the killed one's last handshake has ended.
        working >= Some(self.to) && find(service, &name(self.to - 1)).is_none()
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
    find(service, &name(of)).map_or(Phase::Drained, |one| one.phase)
}

/// Longer than a server waits for its last clients.
const ENDS_WITHIN: Duration = Duration::from_secs(35);
