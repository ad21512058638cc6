//! Servers that are killed, or do not answer for a while.

use anyhow::Result;
use rand::{RngExt as _, rngs::SmallRng};
use rustix::process::Signal;
use synflip_bed::{
    fixture::{find, works},
    product::name,
};

use super::{listeners, up_to_ms};
use crate::soak::servers::{LISTENERS, Servers};

pub(super) fn kill_draining(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = servers.working();
    let to = servers.add(listeners(rng))?;
    let mut command = servers.begin_flip(to)?;
    servers.until("the flip commits", |service| {
        works(service, &name(to)) || command.has_ended()
    })?;
    servers.kill(from)?;
    command.drained()?;
    servers.wait_working(to)
}

pub(super) fn kill_working(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = servers.working();
    let to = servers.add(listeners(rng))?;
    servers.kill(from)?;
    servers.wait_working(to)
}

pub(super) fn kill_only(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    // Otherwise one that is draining takes over.
    servers.wait_alone()?;
    servers.kill(servers.working())?;
    servers.pause(up_to_ms(rng, 400))?;
    let to = servers.add(listeners(rng))?;
    servers.wait_working(to)
}

pub(super) fn kill_process(servers: &mut Servers<'_>) -> Result<()> {
    let working = servers.working();
    while servers.processes_of(working) < 2 {
        servers.join(working)?;
    }
    wait_processes(servers)?;
    servers.kill_one(working)?;
    wait_processes(servers)
}

/// Waits until the agent knows exactly the living processes of the working generation.
fn wait_processes(servers: &mut Servers<'_>) -> Result<()> {
    let working = servers.working();
    let (living, name) = (servers.processes_of(working), name(working));
    servers.until(&format!("{name} has {living} processes"), |service| {
        find(service, &name).is_some_and(|one| one.pids.len() == living)
    })
}

/// It misses nothing that comes meanwhile, even if that is a flip away from it.
pub(super) fn stop_process(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let stopped = servers.working();
    let to = if rng.random() {
        Some(servers.add(LISTENERS)?)
    } else {
        None
    };
    servers.signal_one(stopped, Signal::STOP)?;
    let flip = to.map(|to| servers.begin_flip(to)).transpose()?;
    let stop = servers.pause(up_to_ms(rng, 300));
    servers.signal_one(stopped, Signal::CONT)?;
    stop?;
    if let Some((flip, to)) = flip.zip(to) {
        flip.drained()?;
        servers.wait_working(to)?;
    }
    Ok(())
}

pub(super) fn kill_unready(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let working = servers.working();
    let unready = servers.add_unready()?;
    servers.pause(up_to_ms(rng, 50))?;
    servers.kill(unready)?;
    let unready = name(unready);
    servers.until(&format!("{unready} is forgotten"), |service| {
        find(service, &unready).is_none()
    })?;
    servers.wait_working(working)
}
