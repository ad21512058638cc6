//! What came of it, for scripts and for people.
//!
//! The names in the JSON are a contract: a value may be added, none may be renamed.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use synflip_bed::{
    capability::release,
    load::{Latency, Loss},
};

use super::{
    chaos::{Injected, Story},
    footprint::Footprint,
    options::Settings,
    plan::Kind,
};
use crate::command::{
    Connections,
    format::{count, given, micros, percent},
    ms, table,
};

/// The results of a soak.
#[derive(Serialize)]
pub(super) struct Document {
    kernel: String,
    seed: u64,
    minutes: f64,
    rate: f64,
    rtt_ms: f64,
    loss: f64,
    connections: Connections,
    faults: Faults,
    /// The longest that a client waited for its answer. One that waited in vain is in
    /// `connections.timeout`.
    longest_stall_ms: f64,
    latency_us: Latency,
    killed: Killed,
    agent: Agent,
    /// What was promised and not kept.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Faults {
    total: usize,
    kinds: usize,
    by_kind: BTreeMap<Kind, usize>,
    /// The longest that a client waited for its answer, by what was done meanwhile.
    longest_stall_ms: BTreeMap<Kind, f64>,
}

#[derive(Serialize)]
struct Killed {
    servers: usize,
    agents: u32,
}

/// What agents held in one shape of the service.
#[derive(Serialize)]
struct Agent {
    /// The first agent, before any fault.
    first: Footprint,
    /// The last agent, which was not killed: after a few flips.
    before: Footprint,
    /// The same one at the end.
    after: Footprint,
}

/// What is going to happen.
pub(super) fn headline(settings: &Settings) -> String {
    format!(
        "Linux {}: faults for {} min under {} connections/s, round trip {}, packet loss {}, seed {}",
        release(),
        settings.duration.as_secs_f64() / 60.0,
        settings.rate,
        given(settings.delay.rtt),
        percent(settings.delay.loss),
        settings.delay.seed
    )
}

impl Document {
    pub(super) fn new(settings: &Settings, story: &Story) -> Self {
        let report = &story.report;
        let mut by_kind = BTreeMap::new();
        for fault in &story.faults {
            *by_kind.entry(fault.kind).or_default() += 1;
        }
        let faults = Faults {
            total: story.faults.len(),
            kinds: by_kind.len(),
            by_kind,
            longest_stall_ms: story
                .stalls_us
                .iter()
                .map(|(kind, us)| (*kind, *us as f64 / 1000.0))
                .collect(),
        };
        Self {
            kernel: release(),
            seed: settings.delay.seed,
            minutes: settings.duration.as_secs_f64() / 60.0,
            rate: settings.rate,
            rtt_ms: settings.delay.rtt.as_secs_f64() * 1000.0,
            loss: settings.delay.loss,
            connections: Connections::new(report, Some(story.died_in_service)),
            problems: problems(settings, story, &faults),
            faults,
            longest_stall_ms: report.latency_us.max as f64 / 1000.0,
            latency_us: report.latency_us,
            killed: Killed {
                servers: story.kills,
                agents: story.agent_deaths,
            },
            agent: Agent {
                first: story.first,
                before: story.before,
                after: story.after,
            },
        }
    }

    /// Whether everything that was promised was kept.
    pub(super) const fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

fn problems(settings: &Settings, story: &Story, faults: &Faults) -> Vec<String> {
    let mut problems = story.broken.clone();
    let report = &story.report;
    for loss in report.losses.iter().take(SHOWN) {
        problems.push(describe_loss(loss, story));
    }
    if report.lost > 0 {
        problems.push(format!("{} connections were lost", count(report.lost)));
    }
    if report.corrupt > 0 {
        problems.push(format!("{} answers were wrong", report.corrupt));
    }
    problems.extend(story.after.growth(story.before));
    if story.first.fds != story.before.fds {
        let (before, first) = (story.before.fds, story.first.fds);
        problems.push(format!(
            "an agent that was started again has {before} descriptors, the first had {first}"
        ));
    }
    let wanted = settings.duration.as_secs_f64() / 60.0 * PER_MINUTE;
    if (faults.total as f64) < wanted.floor() || faults.kinds < KINDS {
        problems.push(format!(
            "{} faults of {} kinds are too few for {wanted:.0} of {KINDS}",
            faults.total, faults.kinds
        ));
    }
    problems
}

/// A lost connection, and what was done to the service while it was open.
fn describe_loss(loss: &Loss, story: &Story) -> String {
    let seconds = |us: u64| us.saturating_sub(story.begun_us) as f64 / 1e6;
    format!(
        "lost ({:?}), open from {:.3} s to {:.3} s, during: {}",
        loss.outcome,
        seconds(loss.opened_us),
        seconds(loss.ended_us),
        during(loss.opened_us, loss.ended_us, &story.faults)
    )
}

/// The faults that were being injected at some time between two, or the last one before.
fn during(begun_us: u64, ended_us: u64, faults: &[Injected]) -> String {
    let overlap = |fault: &&Injected| fault.begun_us <= ended_us && fault.ended_us >= begun_us;
    let mut named: Vec<String> = faults.iter().filter(overlap).map(describe_fault).collect();
    if named.is_empty() {
        let last = faults.iter().rev().find(|fault| fault.ended_us < begun_us);
        named.extend(last.map(|fault| format!("after {}", describe_fault(fault))));
    }
    named.join(", ")
}

fn describe_fault(fault: &Injected) -> String {
    format!("{} ({})", fault.number, fault.kind.as_str())
}

/// The tables and the closing sentence.
pub(super) fn describe(document: &Document, story: &Story) -> String {
    let Document {
        connections,
        faults,
        agent,
        ..
    } = document;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let made = connections.ok + connections.lost + story.died_in_service;
    let opened_us = story.report.slowest_opened_us;
    let answered_us = opened_us + story.report.latency_us.max;
    let mut text = format!(
        "\n{}",
        table(
            &["", "SYNFLIP"],
            [
                row("connections made", count(made)),
                row("  lost", count(connections.lost)),
                row("    reset", count(connections.reset)),
                row("    refused", count(connections.refused)),
                row("    timed out", count(connections.timeout)),
                row("  died in service", count(story.died_in_service)),
                row("longest stall", micros(document.latency_us.max)),
                row("latency, p50", micros(document.latency_us.p50)),
                row("latency, p999", micros(document.latency_us.p999)),
                row("servers killed", count(document.killed.servers as u64)),
                row("agents killed", document.killed.agents.to_string()),
            ],
        )
    );
    let rows = faults.by_kind.iter().map(|(kind, times)| {
        let stall = faults.longest_stall_ms.get(kind);
        let stall = stall.map_or_else(|| "-".into(), |stall| ms(*stall));
        vec![kind.as_str().to_owned(), times.to_string(), stall]
    });
    text += &format!("\n{}", table(&["FAULT", "TIMES", "LONGEST STALL"], rows));
    let held = |name: &str, held: Footprint| {
        vec![
            name.to_owned(),
            held.fds.to_string(),
            format!("{} KiB", count(held.rss_kib)),
        ]
    };
    text += &format!(
        "\n{}\n",
        table(
            &["AGENT", "DESCRIPTORS", "MEMORY"],
            [
                held("the first, before the soak", agent.first),
                held("the last, after a few flips", agent.before),
                held("the same, after the soak", agent.after),
            ],
        )
    );
    let stalled = during(opened_us, answered_us, &story.faults);
    writeln!(text, "Note: the longest stall was during: {stalled}").unwrap_or_default();
    for problem in &document.problems {
        writeln!(text, "FAILED: {problem}").unwrap_or_default();
    }
    text + &format!(
        "{} of {} connections lost in {} faults of {} kinds; seed {}.\n",
        count(connections.lost),
        count(made),
        faults.total,
        faults.kinds,
        document.seed
    )
}

/// Lost connections that are described one by one.
const SHOWN: usize = 20;
/// Fewer faults, and of fewer kinds, prove little.
const PER_MINUTE: f64 = 40.0;
const KINDS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_meanwhile_is_named() {
        let fault = |number, kind, begun_us| Injected {
            number,
            kind,
            begun_us,
            ended_us: begun_us + 10,
        };
        let faults = [fault(1, Kind::Flip, 100), fault(2, Kind::Garbage, 120)];
        assert_eq!(during(90, 99, &faults), "");
        assert_eq!(during(90, 100, &faults), "1 (flip)");
        assert_eq!(during(105, 125, &faults), "1 (flip), 2 (garbage)");
        assert_eq!(during(112, 115, &faults), "after 1 (flip)");
    }
}
