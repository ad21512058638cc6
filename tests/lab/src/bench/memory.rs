//! How much memory does the agent need, and for a listener?

use anyhow::{Result, ensure};
use serde::Serialize;
use synflip_bed::Fixture;

use super::measure::met;
use crate::command::{Interrupt, table};

#[derive(Serialize)]
pub(super) struct Memory {
    empty_kib: u64,
    loaded_kib: u64,
    listeners: usize,
    ratio: f64,
    goal_kib: u64,
}

pub(super) fn measure(interrupt: &Interrupt) -> Result<Memory> {
    let fixture = Fixture::new()?;
    let empty_kib = fixture.agent.resident_kib()?;
    let mut generations = Vec::new();
    for number in 1..=GENERATIONS {
        interrupt.check()?;
        generations.push(fixture.start(&fixture.spec(number, EACH))?);
    }
    let registered = fixture.agent.service()?.generations;
    let listeners = registered.iter().map(|one| one.listeners.len()).sum();
    ensure!(
        listeners == EACH * generations.len(),
        "only {listeners} listeners are registered"
    );
    let loaded_kib = fixture.agent.resident_kib()?;
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

const GENERATIONS: u32 = 2;
const EACH: usize = 128;
const GOAL_KIB: u64 = 10 * 1024;
