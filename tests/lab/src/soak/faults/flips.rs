//! Flips in every order.

use anyhow::{Result, ensure};
use rand::{RngExt as _, rngs::SmallRng};
use synflip_wire::Phase;

use super::{FLIPS_WITHIN, listeners, up_to_ms};
use crate::soak::world::{World, name, works};

pub(super) fn flip(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = world.start(listeners(rng))?;
    world.flip(to)
}

/// Back before the old generation has drained, or when it waits for nothing else.
pub(super) fn rollback(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = world.working();
    let to = name(world.start(listeners(rng))?);
    let mut there = vec!["flip", "--to", &to, "--keep", "--timeout", "60", "--json"];
    if rng.random() {
        there.push("--no-wait");
    }
    world.succeed(&there)?;
    world.pause(up_to_ms(rng, 20))?;
    world.succeed(&["rollback", "--timeout", "60", "--json"])?;
    world.wait_working(from)
}

/// One of them wins, or one comes after the other.
pub(super) fn two_at_once(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let both = [world.start(listeners(rng))?, world.start(listeners(rng))?];
    let [one, other] = [world.begin_flip(both[0])?, world.begin_flip(both[1])?];
    let ends = [one.end(FLIPS_WITHIN)?, other.end(FLIPS_WITHIN)?];
    // With 4, the other flip has come before its drain was over.
    ensure!(
        ends.iter().any(|cli| matches!(cli.code, 0 | 4)),
        "none has flipped: {ends:?}"
    );
    let service = world.service()?;
    let winner = if works(&service, both[0]) {
        both[0]
    } else {
        both[1]
    };
    world.wait_working(winner)?;
    let refused = both.map(name).into_iter().find(|name| {
        let mut generations = service.generations.iter();
        generations.any(|one| one.name.as_str() == name && one.phase == Phase::Ready)
    });
    match refused {
        Some(name) => world.succeed(&["retire", "--generation", &name]),
        None => Ok(()),
    }
}

pub(super) fn kill_command(world: &mut World<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = world.start(listeners(rng))?;
    let command = world.begin_flip(to)?;
    world.pause(up_to_ms(rng, 25))?;
    drop(command);
    world.complete_flip(to)
}
