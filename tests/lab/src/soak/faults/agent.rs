//! An agent that is killed, and comes back.

use anyhow::Result;
use rand::rngs::SmallRng;
use synflip_bed::wait::SOON;

use super::{listeners, up_to_ms};
use crate::soak::servers::Servers;

pub(super) fn kill(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let working = servers.working();
    servers.wait_served()?;
    servers.kill_agent()?;
    servers.pause(up_to_ms(rng, 200))?;
    servers.restart_agent()?;
    servers.wait_working(working)
}

/// Before, at or after the commit; whichever it was, the flip can be completed.
pub(super) fn kill_in_flip(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = servers.add(listeners(rng))?;
    servers.wait_served()?;
    let command = servers.begin_flip(to)?;
    // It may have committed, and the old generation be gone, before anybody can say so.
    servers.turn_to(to);
    servers.pause(up_to_ms(rng, 30))?;
    servers.kill_agent()?;
    command.end(2 * SOON)?;
    servers.pause(up_to_ms(rng, 200))?;
    servers.restart_agent()?;
    servers.complete_flip(to)
}
