//! How much memory does the agent need, and for a listener?

use std::{fs, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::measure::met;
use crate::command::{Interrupt, table};
use synflip_bed::{
    Netns,
    product::{Agent, Generation, Spec},
};

#[derive(Serialize)]
pub(super) struct Memory {
    empty_kib: u64,
    loaded_kib: u64,
    listeners: usize,
    ratio: f64,
    goal_kib: u64,
}

pub(super) fn measure(interrupt: &Interrupt) -> Result<Memory> {
    let netns = Netns::new()?;
    let agent = Agent::start(&netns)?;
    let empty_kib = resident_kib(agent.pid())?;
    let mut generations = Vec::new();
    for number in 1..=GENERATIONS {
        interrupt.check()?;
        let spec = Spec::new(number, (Ipv4Addr::LOCALHOST, PORT).into(), EACH);
        generations.push(Generation::start(&netns, &agent, &spec)?);
    }
    let registered = agent.service()?.generations;
    let listeners = registered.iter().map(|one| one.listeners.len()).sum();
    ensure!(
        listeners == EACH * generations.len(),
        "only {listeners} listeners are registered"
    );
    let loaded_kib = resident_kib(agent.pid())?;
    Ok(Memory {
        empty_kib,
        loaded_kib,
        listeners,
        ratio: loaded_kib as f64 / empty_kib as f64,
        goal_kib: GOAL_KIB,
    })
}

impl Memory {
    pub(super) fn describe(&self) -> String {
        let row = |listeners: usize, kib: u64| vec![listeners.to_string(), format!("{kib} KiB")];
        let rows = [row(0, self.empty_kib), row(self.listeners, self.loaded_kib)];
        format!(
            "\nmemory: resident, of the agent\n{}ratio {:.2} (goal: less than {} MiB, {})\n",
            table(&["LISTENERS", "RESIDENT"], rows),
            self.ratio,
            self.goal_kib / 1024,
            met(self.loaded_kib < self.goal_kib),
        )
    }
}

/// Resident memory, counted page by page: VmRSS of `status` may be off by a batch for each
/// processor, which is more than the difference that is looked for.
fn resident_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.with_context(|| format!("{path} has no Rss"))?;
    number.parse().with_context(|| format!("read {number:?}"))
}

const GENERATIONS: u32 = 2;
const EACH: usize = 128;
const PORT: u16 = 8080;
const GOAL_KIB: u64 = 20 * 1024;
