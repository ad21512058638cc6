//! Promise: at whatever instants of flips the agent dies, again and again, nothing is lost.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::SmallRng};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    capability::scaled,
    fixture::works,
    wait::{self, SOON},
    with_seed,
};

/// A flip, its commit and its drain take about so long, the command's start included.
const FLIP_US: u32 = 60_000;

#[test]
fn an_agent_that_is_killed_during_each_flip_loses_nothing() -> Result<()> {
    with_seed(killed_during_each_flip)
}

fn killed_during_each_flip(rng: &mut SmallRng) -> Result<()> {
    let mut fixture = Fixture::new()?;
    let mut old = fixture.first(&[])?;
    let load = fixture.net.load(4);
    for number in 2..2 + scaled(10) {
        let new = fixture.generation(number, &[])?;
        let name = new.name.clone();
        let flip = fixture.agent.begin_flip(&name)?;
        let instant = Duration::from_micros(rng.random_range(0..FLIP_US).into());
        wait::pause(instant);
        fixture.agent.kill(Signal::KILL)?;
        flip.end(SOON)?;
        load.more(20)
            .with_context(|| format!("{name}: killed after {instant:?}"))?;
        fixture.restart_agent()?;
        let status = fixture.wait_back(&[&name])?;
        if !works(&status, &name) {
            let flip = fixture.agent.flip(&name);
            flip.with_context(|| {
                format!("{name}: killed after {instant:?}: {}", fixture.agent.log())
            })?;
        }
        let exit = old.wait_exit(SOON);
        exit.with_context(|| format!("{name}: killed after {instant:?}: {}", fixture.agent.log()))?;
        old = new;
    }
    load.finish_unharmed()
        .with_context(|| fixture.agent.log())?;
    fixture.until("nothing else is left", |s| s.generations.len() == 1)?;
    fixture.agent.check_counters()
}
