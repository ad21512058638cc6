//! What do scripts read?
//!
//! The names are a contract: a value may be added, none may be renamed.

use std::collections::BTreeMap;

use serde::Serialize;
use synflip_bed::{capability::release, load::Latency, product::name};
use synflip_wire::Phase;

use super::{
    half::{Counters, Half, Mode},
    kill::{Kill, Victim},
    options::Settings,
};
use crate::command::{Connections, median_and_max};

/// The results of a run.
#[derive(Serialize)]
pub(super) struct Document {
    kernel: String,
    mode: Mode,
    seed: u64,
    rtt_ms: f64,
    loss: f64,
    seconds: f64,
    flips: usize,
    connections: Connections,
    flip_commit_ms: Spread,
    drain_ms: Spread,
    latency_us: Latencies,
    generations: Vec<Generation>,
    /// Where generations were killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    kills: Option<Vec<Killed>>,
    counters: Option<Counters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Box<Self>>,
}

/// Null where there is nothing to measure.
#[derive(Serialize)]
struct Spread {
    p50: Option<f64>,
    max: Option<f64>,
}

#[derive(Serialize)]
struct Latencies {
    steady: Option<Latency>,
    flip: Option<Latency>,
}

#[derive(Serialize)]
struct Generation {
    name: String,
    number: u32,
    listeners: usize,
    /// Connections that it answered, as clients counted them.
    served: u64,
    queued: Option<u64>,
    half_open: Option<u64>,
    drain_ms: Option<u64>,
}

#[derive(Serialize)]
struct Killed {
    generation: String,
    /// Which one it was to be.
    which: Victim,
    /// What it was doing.
    phase: Phase,
    at_s: f64,
    /// Connections that it had accepted and not answered.
    accepted_unanswered: u64,
    /// Whether it may have accepted one more.
    accepting: bool,
    /// Of all these: what clients lost.
    died_in_service: u64,
}

impl Document {
    pub(super) fn new(settings: &Settings, half: &Half, baseline: Option<&Half>) -> Self {
        let report = &half.report;
        Self {
            kernel: release(),
            mode: half.mode,
            seed: settings.delay.seed,
            rtt_ms: settings.delay.rtt.as_secs_f64() * 1000.0,
            loss: settings.delay.loss,
            seconds: settings.duration.as_secs_f64(),
            flips: half.flips.len(),
            connections: Connections::new(
                report,
                settings.kill_old.then(|| half.died_in_service()),
            ),
            flip_commit_ms: Spread::of(half.commit_ms()),
            drain_ms: Spread::of(half.drain_ms()),
            latency_us: Latencies {
                steady: half.latency.steady,
                flip: half.latency.flip,
            },
            generations: generations(settings, half, &report.by_generation),
            kills: settings
                .kill_old
                .then(|| half.kills.iter().map(killed).collect()),
            counters: half.counters,
            baseline: baseline.map(|half| Box::new(Self::new(settings, half, None))),
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (p50, max) = median_and_max(values.collect()).unzip();
        Self { p50, max }
    }
}

fn killed(kill: &Kill) -> Killed {
    Killed {
        generation: name(kill.generation),
        which: kill.victim,
        phase: kill.phase,
        at_s: kill.at.as_secs_f64(),
        accepted_unanswered: kill.unanswered(),
        accepting: kill.death.account.accepting,
        died_in_service: kill.died_in_service,
    }
}

fn generations(settings: &Settings, half: &Half, served: &BTreeMap<u32, u64>) -> Vec<Generation> {
    (1..=settings.flips + 1)
        .map(|number| {
            let replaced = half.flips.iter().find(|flip| flip.from == number);
            let drain = replaced.and_then(|flip| flip.drain);
            Generation {
                name: name(number),
                number,
                listeners: settings.listeners_of(number),
                served: served.get(&number).copied().unwrap_or(0),
                queued: drain.map(|drain| drain.queued),
                half_open: drain.map(|drain| drain.half_open),
                drain_ms: drain.map(|drain| drain.drain_ms),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
