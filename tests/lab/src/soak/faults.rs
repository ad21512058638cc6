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
    servers::{LISTENERS, Servers},
};

/// Injects a fault, and waits until the service is as it has to be after it.
pub(super) fn inject(fault: Fault, servers: &mut Servers<'_>) -> Result<()> {
    let mut rng = fault.rng;
    servers.reap()?;
    match fault.kind {
        Kind::Flip => flips::flip(servers, &mut rng),
        Kind::Rollback => flips::rollback(servers, &mut rng),
        Kind::TwoFlips => flips::two_at_once(servers, &mut rng),
        Kind::KillCommand => flips::kill_command(servers, &mut rng),
        Kind::KillDraining => deaths::kill_draining(servers, &mut rng),
        Kind::KillWorking => deaths::kill_working(servers, &mut rng),
        Kind::KillOnly => deaths::kill_only(servers, &mut rng),
        Kind::KillProcess => deaths::kill_process(servers),
        Kind::StopProcess => deaths::stop_process(servers, &mut rng),
        Kind::KillUnready => deaths::kill_unready(servers, &mut rng),
        Kind::KillAgent => agent::kill(servers, &mut rng),
        Kind::KillAgentInFlip => agent::kill_in_flip(servers, &mut rng),
        Kind::Garbage => garbage::send(servers, &mut rng),
    }
}

/// As many listeners as a generation may have: not always as many as the one before.
fn listeners(rng: &mut SmallRng) -> usize {
    rng.random_range(LISTENERS - 1..=LISTENERS + 1)
}

fn up_to_ms(rng: &mut SmallRng, ms: u64) -> Duration {
    Duration::from_micros(rng.random_range(0..=ms * 1000))
}
