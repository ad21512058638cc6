//! Flips in every order.

use anyhow::{Result, ensure};
use rand::{RngExt as _, rngs::SmallRng};
use synflip_bed::{
    fixture::{find, works},
    product::name,
    wait::SOON,
};
use synflip_wire::Phase;

use super::{listeners, up_to_ms};
use crate::soak::servers::Servers;

pub(super) fn flip(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = servers.add(listeners(rng))?;
    servers.flip(to)
}

/// Back before the old generation has drained, or when it waits for nothing else.
pub(super) fn rollback(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let from = servers.working();
    let to = name(servers.add(listeners(rng))?);
    let mut there = vec!["flip", "--to", &to, "--keep", "--timeout", "60", "--json"];
    if rng.random() {
        there.push("--no-wait");
    }
    servers.succeed(&there)?;
    servers.pause(up_to_ms(rng, 20))?;
    servers.succeed(&["rollback", "--timeout", "60", "--json"])?;
    servers.wait_working(from)
}

/// One of them wins, or one comes after the other.
pub(super) fn two_at_once(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let both = [servers.add(listeners(rng))?, servers.add(listeners(rng))?];
    let [one, other] = [servers.begin_flip(both[0])?, servers.begin_flip(both[1])?];
    let ends = [one.end(2 * SOON)?, other.end(2 * SOON)?];
    // With 4, the other flip has come before its drain was over.
    ensure!(
        ends.iter().any(|cli| matches!(cli.code, 0 | 4)),
        "none has flipped: {ends:?}"
    );
    let service = servers.fixture.agent.service()?;
    let winner = if works(&service, &name(both[0])) {
        both[0]
    } else {
        both[1]
    };
    servers.wait_working(winner)?;
    let ready = |name: &String| find(&service, name).is_some_and(|one| one.phase == Phase::Ready);
    let refused = both.map(name).into_iter().find(ready);
    match refused {
        Some(name) => servers.succeed(&["retire", "--generation", &name]),
        None => Ok(()),
    }
}

pub(super) fn kill_command(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let to = servers.add(listeners(rng))?;
    let command = servers.begin_flip(to)?;
    servers.pause(up_to_ms(rng, 25))?;
    drop(command);
    servers.complete_flip(to)
}
