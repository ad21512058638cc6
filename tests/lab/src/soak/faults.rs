//! How is each fault made?
//!
//! Each begins with a generation that works and ends with one, and waits in between for whatever
//! it needs. Old generations may still be draining when the next one begins.

mod agent;
mod deaths;
mod flips;
mod garbage;

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt as _, rngs::SmallRng};

use super::{
    plan::{Fault, Kind},
    world::{LISTENERS, World},
};

/// Injects a fault, and waits until the service is as it has to be after it.
pub(super) fn inject(fault: Fault, world: &mut World<'_>) -> Result<()> {
    let mut rng = fault.rng;
    world.reap()?;
    match fault.kind {
        Kind::Flip => flips::flip(world, &mut rng),
        Kind::Rollback => flips::rollback(world, &mut rng),
        Kind::TwoFlips => flips::two_at_once(world, &mut rng),
        Kind::KillCommand => flips::kill_command(world, &mut rng),
        Kind::KillDraining => deaths::kill_draining(world, &mut rng),
        Kind::KillWorking => deaths::kill_working(world, &mut rng),
        Kind::KillOnly => deaths::kill_only(world, &mut rng),
        Kind::KillProcess => deaths::kill_process(world),
        Kind::StopProcess => deaths::stop_process(world, &mut rng),
        Kind::KillUnready => deaths::kill_unready(world, &mut rng),
        Kind::KillAgent => agent::kill(world, &mut rng),
        Kind::KillAgentInFlip => agent::kill_in_flip(world, &mut rng),
        Kind::Garbage => garbage::send(world, &mut rng),
    }
}

/// As many listeners as a generation may have: not always as many as the one before.
fn listeners(rng: &mut SmallRng) -> usize {
    rng.random_range(LISTENERS - 1..=LISTENERS + 1)
}

fn up_to_ms(rng: &mut SmallRng, ms: u64) -> Duration {
    Duration::from_micros(rng.random_range(0..=ms * 1000))
}

/// For a flip with its drain.
const FLIPS_WITHIN: Duration = Duration::from_secs(90);
