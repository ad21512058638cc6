//! Does a flip take longer with more listeners, or than it took at another commit?
//!
//! It should take what the kernel's grace period takes, which is measured beside it. One is waited
//! for before each flip, so that none is under way when it begins.

mod barrier;
mod service;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::{
    barrier::Barrier,
    service::{Service, Took},
};
use super::{
    interval::Interval,
    measure::{Spread, met},
};
use crate::command::{Interrupt, Screen, ms, table};

#[derive(Serialize)]
pub(super) struct Flip {
    flips: u32,
    /// The wait alone.
    grace_period_ms: Spread,
    /// Commits with one listener.
    one_listener_ms: Spread,
    /// Commits with 64 listeners over 4 ports.
    many_listeners_ms: Spread,
    /// Of the medians: many listeners to one.
    ratio: f64,
    /// Of the medians: one listener to the wait alone.
    ratio_to_grace_period: f64,
    /// The whole command with one listener.
    one_listener_command_ms: Spread,
    /// The whole command with 64 listeners.
    many_listeners_command_ms: Spread,
    /// The same flips beside those of another commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

/// Flips of this commit and of another one, alternating.
#[derive(Serialize)]
struct Against {
    /// What no ratio should exceed.
    goal: f64,
    one_listener: Comparison,
    one_listener_command: Comparison,
    many_listeners: Comparison,
    many_listeners_command: Comparison,
}

#[derive(Serialize)]
struct Comparison {
    now_ms: Spread,
    then_ms: Spread,
    /// The median of the pairs' ratios, now to then.
    ratio: Interval,
}

/// Services that are flipped in turn: with one listener, and with many.
struct Side {
    services: [Service; 2],
    /// What each flip took, by service.
    took: [Vec<Took>; 2],
}

pub(super) fn measure(
    flips: u32,
    against: Option<&Path>,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Flip> {
    let mut barrier = Barrier::new()?;
    let mut sides = vec![Side::start(None)?];
    if against.is_some() {
        sides.push(Side::start(against)?);
    }
    let mut waits = Vec::new();
    for number in 1..=flips {
        screen.state(|| format!("flip: {number} of {flips}"))?;
        for listeners in 0..2 {
            for turn in 0..sides.len() {
                interrupt.check()?;
                // The other way around each time, so that neither profits from going first.
                let backwards = number.is_multiple_of(2);
                let side = if backwards {
                    sides.len() - 1 - turn
                } else {
                    turn
                };
                waits.push(barrier.wait()?);
                let took = sides[side].services[listeners].flip()?;
                sides[side].took[listeners].push(took);
            }
        }
    }
    let now = &sides[0];
    let spread = |of: fn(&Took) -> f64, listeners: usize| Spread::of(&now.all(of, listeners));
    let grace_period_ms = Spread::of(&waits);
    let (one, many) = (spread(|took| took.commit, 0), spread(|took| took.commit, 1));
    Ok(Flip {
        flips,
        grace_period_ms,
        one_listener_ms: one,
        many_listeners_ms: many,
        ratio: many.p50 / one.p50,
        ratio_to_grace_period: one.p50 / grace_period_ms.p50,
        one_listener_command_ms: spread(|took| took.command, 0),
        many_listeners_command_ms: spread(|took| took.command, 1),
        against: sides
            .get(1)
            .map(|then| Against::of(now, then))
            .transpose()?,
    })
}

impl Side {
    fn start(programs: Option<&Path>) -> Result<Self> {
        Ok(Self {
            services: [
                Service::start(programs, 1, 1)?,
                Service::start(programs, PORTS, EACH)?,
            ],
            took: [Vec::new(), Vec::new()],
        })
    }

    fn all(&self, of: fn(&Took) -> f64, listeners: usize) -> Vec<f64> {
        self.took[listeners].iter().map(of).collect()
    }
}

impl Against {
    fn of(now: &Side, then: &Side) -> Result<Self> {
        let compare = |of: fn(&Took) -> f64, listeners: usize| {
            let (now, then) = (now.all(of, listeners), then.all(of, listeners));
            let ratios = now.iter().zip(&then).map(|(now, then)| now / then);
            Ok::<_, anyhow::Error>(Comparison {
                now_ms: Spread::of(&now),
                then_ms: Spread::of(&then),
                ratio: Interval::median(&ratios.collect::<Vec<_>>()).context("no flips")?,
            })
        };
        Ok(Self {
            goal: GOAL,
            one_listener: compare(|took| took.commit, 0)?,
            one_listener_command: compare(|took| took.command, 0)?,
            many_listeners: compare(|took| took.commit, 1)?,
            many_listeners_command: compare(|took| took.command, 1)?,
        })
    }

    fn describe(&self, flips: u32) -> String {
        let row = |name: &str, found: &Comparison| {
            let Interval { value, low, high } = found.ratio;
            vec![
                name.to_owned(),
                ms(found.now_ms.p50),
                ms(found.then_ms.p50),
                format!("{value:.3}"),
                format!("{low:.3} to {high:.3}"),
                met(value <= self.goal).into(),
            ]
        };
        let rows = [
            row("1 listener: commit", &self.one_listener),
            row("1 listener: command", &self.one_listener_command),
            row("64 listeners: commit", &self.many_listeners),
            row("64 listeners: command", &self.many_listeners_command),
        ];
        let header = ["", "NOW", "THEN", "RATIO", "WITH 95 %", "GOAL"];
        format!(
            "\nbeside the other commit: medians of {flips} pairs, and of their ratios (goal: at \
             most {})\n{}",
            self.goal,
            table(&header, rows),
        )
    }
}

impl Flip {
    pub(super) fn describe(&self) -> String {
        let row = |name: &str, spread: Spread| {
            let ratio = |to: Spread| format!("{:.2}", spread.p50 / to.p50);
            vec![
                name.to_owned(),
                ms(spread.p50),
                ms(spread.max),
                ratio(self.grace_period_ms),
                ratio(self.one_listener_ms),
            ]
        };
        let rows = [
            row("grace period alone", self.grace_period_ms),
            row("1 listener, 1 port: commit", self.one_listener_ms),
            row("… all of the command", self.one_listener_command_ms),
            row("64 listeners, 4 ports: commit", self.many_listeners_ms),
            row("… all of the command", self.many_listeners_command_ms),
        ];
        let header = ["", "P50", "MAX", "TO GRACE PERIOD", "TO 1 LISTENER"];
        let against = self.against.as_ref();
        format!(
            "\nflip: commit time, {} of each, alternating, without load\n{}\
             64 listeners take {:.2} of the time of 1\n{}",
            self.flips,
            table(&header, rows),
            self.ratio,
            against
                .map(|against| against.describe(self.flips))
                .unwrap_or_default()
        )
    }
}

const PORTS: u16 = 4;
const EACH: usize = 16;
const GOAL: f64 = 1.1;
