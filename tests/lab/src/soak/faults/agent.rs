//! An agent that is killed, and comes back.

use anyhow::Result;
use rand::rngs::SmallRng;

use super::{FLIPS_WITHIN, listeners, up_to_ms};
use crate::soak::world::World;

pub(super) fn kill(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let working = world.working();
    world.wait_served()?;
    world.kill_agent()?;
    world.pause(up_to_ms(rng, 200))?;
    world.restart_agent()?;
    world.wait_working(working)
}

/// Before, at or after the commit; whichever it was, the flip can be completed.
pub(super) fn kill_in_flip(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = world.start(listeners(rng))?;
    world.wait_served()?;
    let command = world.begin_flip(to)?;
    // It may have committed, and the old generation be gone, before anybody can say so.
    world.turn_to(to);
    world.pause(up_to_ms(rng, 30))?;
    world.kill_agent()?;
    command.end(FLIPS_WITHIN)?;
    world.pause(up_to_ms(rng, 200))?;
    world.restart_agent()?;
    world.complete_flip(to)
}
