//! Servers that are killed, or do not answer for a while.

use anyhow::{Result, ensure};
use rand::{RngExt as _, rngs::SmallRng};
use rustix::process::Signal;

use super::{FLIPS_WITHIN, listeners, up_to_ms};
use crate::soak::world::{LISTENERS, World, name, works};

pub(super) fn kill_draining(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = world.working();
    let to = world.start(listeners(rng))?;
    let mut command = world.begin_flip(to)?;
    world.until("the flip commits", |service| {
        works(service, to) || command.has_ended()
    })?;
    world.kill(from)?;
    let end = command.end(FLIPS_WITHIN)?;
    ensure!(
        end.code == 0,
        "the flip ended with {}: {}{}",
        end.code,
        end.stdout,
        end.stderr
    );
    world.wait_working(to)
}

pub(super) fn kill_working(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = world.working();
    let to = world.start(listeners(rng))?;
    world.kill(from)?;
    world.wait_working(to)
}

pub(super) fn kill_only(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    // Otherwise one that is draining takes over.
    world.wait_alone()?;
    world.kill(world.working())?;
    world.pause(up_to_ms(rng, 400))?;
    let to = world.start(listeners(rng))?;
    world.wait_working(to)
}

pub(super) fn kill_process(world: &mut World<'_>) -> Result<()> {
    let working = world.working();
    while world.processes_of(working) < 2 {
        world.join(working)?;
    }
    wait_processes(world)?;
    world.kill_one(working)?;
    wait_processes(world)
}

/// Waits until the agent knows exactly the living processes of the working generation.
fn wait_processes(world: &mut World<'_>) -> Result<()> {
    let working = world.working();
    let (living, name) = (world.processes_of(working), name(working));
    world.until(&format!("{name} has {living} processes"), |service| {
        let mut generations = service.generations.iter();
        generations.any(|one| one.name.as_str() == name && one.pids.len() == living)
    })
}

/// It misses nothing that comes meanwhile, even if that is a flip away from it.
pub(super) fn stop_process(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let stopped = world.working();
    let to = if rng.random() {
        Some(world.start(LISTENERS)?)
    } else {
        None
    };
    world.signal_one(stopped, Signal::STOP)?;
    let flip = to.map(|to| world.begin_flip(to)).transpose()?;
    let stop = world.pause(up_to_ms(rng, 300));
    world.signal_one(stopped, Signal::CONT)?;
    stop?;
    if let Some((flip, to)) = flip.zip(to) {
        let end = flip.end(FLIPS_WITHIN)?;
        ensure!(
            end.code == 0,
            "the flip ended with {}: {}{}",
            end.code,
            end.stdout,
            end.stderr
        );
        world.wait_working(to)?;
    }
    Ok(())
}

pub(super) fn kill_unready(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let working = world.working();
    let unready = world.start_unready()?;
    world.pause(up_to_ms(rng, 50))?;
    world.kill(unready)?;
    let unready = name(unready);
    world.until(&format!("{unready} is forgotten"), |service| {
        let mut generations = service.generations.iter();
        generations.all(|one| one.name.as_str() != unready)
    })?;
    world.wait_working(working)
}
