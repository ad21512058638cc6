//! The agent dies at random instants of flips, again and again.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::SmallRng};
use rustix::process::Signal;
use synflip_bed::{capability::scaled, wait};

use crate::{
    bed::{Bed, SOON, works},
    seed::with_seed,
    story::is_back,
};

/// A flip, its commit and its drain take about so long, the command's start included.
const FLIP_US: u32 = 60_000;

fn an_agent_that_is_killed_during_each_flip_loses_nothing() -> Result<()> {
    with_seed(killed_during_each_flip)
}

fn killed_during_each_flip(rng: &mut SmallRng) -> Result<()> {
    let mut bed = Bed::new()?;
    let mut old = bed.first(&[])?;
    let load = bed.load(4);
    for number in 2..2 + scaled(10) {
        let new = bed.generation(number, &[])?;
        let name = new.name.clone();
        let mut command = bed.agent.command(&["flip", "--to", &name])?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut flip = command.spawn().context("start synflip flip")?;
        let instant = Duration::from_micros(rng.random_range(0..FLIP_US).into());
        wait::pause(instant);
        bed.agent.kill(Signal::KILL)?;
        flip.wait().context("wait for synflip flip")?;
        load.more(20)
            .with_context(|| format!("{name}: killed after {instant:?}"))?;
        bed.agent.restart(&bed.netns)?;
        let status = bed.until("the new one is back", |service| is_back(service, &name))?;
        if !works(&status, &name) {
            let flip = bed.agent.flip(&name);
            flip.with_context(|| format!("{name}: killed after {instant:?}: {}", bed.agent.log()))?;
        }
        let exit = old.wait_exit(SOON);
        exit.with_context(|| format!("{name}: killed after {instant:?}: {}", bed.agent.log()))?;
        old = new;
    }
    load.finish_unharmed().with_context(|| bed.agent.log())?;
    bed.until("nothing else is left", |s| s.generations.len() == 1)?;
    bed.agent.check_counters()
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        an_agent_that_is_killed_during_each_flip_loses_nothing
    }
}
