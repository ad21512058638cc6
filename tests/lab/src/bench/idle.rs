//! What does an agent cost that has nothing to do?
//!
//! Two agents at the same time: one that has services, and one that has none.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use synflip_bed::{
    Fixture,
    product::{Agent, Generation, Spec},
    wait::{MS, SECOND, SOON, pause, until},
};
use synflip_wire::Phase;

use super::measure::met;
use crate::command::{Interrupt, Screen, ms, table};

#[derive(Serialize)]
pub(super) struct Idle {
    seconds: f64,
    services: u16,
    /// Of all services.
    listeners: usize,
    /// The agent without services.
    empty: Cost,
    /// The agent with all of them.
    loaded: Cost,
    goal_ms: f64,
}

/// What an agent does in a minute.
#[derive(Clone, Copy, Serialize)]
struct Cost {
    processor_ms: f64,
    /// How often its threads go to sleep again.
    wakes: f64,
}

/// What an agent has done until now.
struct Reading {
    at: Instant,
    processor: Duration,
    sleeps: u64,
}

pub(super) fn measure(
    length: Duration,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Idle> {
    let [empty, loaded] = [Fixture::new()?, Fixture::new()?];
    let mut generations = Vec::new();
    for number in 1..=SERVICES {
        interrupt.check()?;
        screen.state(|| format!("idle: service {number} of {SERVICES}"))?;
        generations.push(start(&loaded, number)?);
    }
    until("every first generation is on standby", SOON, || {
        standbys(&loaded.agent).is_ok_and(|count| count == usize::from(SERVICES))
    })?;
    let services = loaded.agent.status()?.services;
    let of_all = services.iter().flat_map(|service| &service.generations);
    let listeners = of_all.map(|generation| generation.listeners.len()).sum();
    ensure!(
        listeners == generations.len() * GENERATIONS * LISTENERS,
        "{listeners} listeners are registered"
    );
    // What follows from a flip, and from being asked, is over then.
    rest(3 * SECOND, interrupt)?;
    screen.state(|| format!("idle: {} s without anything to do", length.as_secs_f64()))?;
    let agents = [&empty.agent, &loaded.agent];
    let [empty, loaded] = [Reading::of(agents[0])?, Reading::of(agents[1])?];
    rest(length, interrupt)?;
    Ok(Idle {
        seconds: length.as_secs_f64(),
        services: SERVICES,
        listeners,
        empty: empty.cost_since(&Reading::of(agents[0])?),
        loaded: loaded.cost_since(&Reading::of(agents[1])?),
        goal_ms: GOAL_MS,
    })
}

/// Starts two generations of a service, the first of which ends up on standby.
fn start(fixture: &Fixture, number: u16) -> Result<[Generation; GENERATIONS]> {
    let first = fixture.net.address;
    let address = (first.ip(), first.port() + number).into();
    let service = format!("service{number}");
    let start = |generation| {
        let spec = Spec::new(generation, address, LISTENERS);
        fixture.start(&spec.args(&["--service", &service]))
    };
    let generations = [start(1)?, start(2)?];
    let to_second = ["flip", "--keep", "--service", &service, "--to", "gen2"];
    fixture.agent.succeed(&to_second)?;
    Ok(generations)
}

fn standbys(agent: &Agent) -> Result<usize> {
    let services = agent.status()?.services;
    let all = services.iter().flat_map(|service| &service.generations);
    Ok(all
        .filter(|generation| generation.phase == Phase::Standby)
        .count())
}

fn rest(length: Duration, interrupt: &Interrupt) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < length {
        interrupt.check()?;
        pause((length - begun.elapsed()).min(200 * MS));
    }
    Ok(())
}

impl Reading {
    fn of(agent: &Agent) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            processor: agent.processor_time()?,
            sleeps: agent.sleeps()?,
        })
    }

    fn cost_since(&self, now: &Self) -> Cost {
        let minutes = (now.at - self.at).as_secs_f64() / 60.0;
        let processor = now.processor.saturating_sub(self.processor);
        Cost {
            processor_ms: processor.as_secs_f64() * 1000.0 / minutes,
            wakes: now.sleeps.saturating_sub(self.sleeps) as f64 / minutes,
        }
    }
}

impl Idle {
    pub(super) fn describe(&self) -> String {
        let row = |services: u16, cost: Cost| {
            vec![
                services.to_string(),
                ms(cost.processor_ms),
                format!("{:.0}", cost.wakes),
            ]
        };
        let rows = [row(0, self.empty), row(self.services, self.loaded)];
        format!(
            "\nidle: the agent's processor time a minute, of {:.0} s; {} listeners, one generation \
             of each service works and one is on standby\n{}goal: at most {} ms, {}\n",
            self.seconds,
            self.listeners,
            table(&["SERVICES", "PROCESSOR", "WAKE-UPS"], rows),
            self.goal_ms,
            met(self.loaded.processor_ms <= self.goal_ms),
        )
    }
}

const SERVICES: u16 = 16;
const GENERATIONS: usize = 2;
const LISTENERS: usize = 4;
const GOAL_MS: f64 = 60.0;
