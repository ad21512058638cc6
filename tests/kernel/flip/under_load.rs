//! Promise: nothing is lost on a flip, at any distance between the clients and the server.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use synflip_bed::{Delay, Family, Line, capability::is_slow, wait::MS};

use crate::helpers::restarts::Restarts;

// A hundred over both families: they keep the processors busy.
#[test]
fn a_hundred_flips_at_1_ms_lose_nothing() -> Result<()> {
    for family in Family::BOTH {
        nothing_is_lost(family, Delay::of(MS), 50, 10)?;
    }
    Ok(())
}

#[test]
fn flips_at_20_ms_lose_nothing() -> Result<()> {
    // These clients go in step: half of the restarts fall between two of their connections.
    Family::both(|family| nothing_is_lost(family, Delay::of(20 * MS), 16, 20))
}

#[test]
fn flips_lose_nothing_when_packets_are_lost() -> Result<()> {
    let delay = Delay {
        loss: 0.01,
        ..Delay::of(MS)
    };
    let row = || Family::both(|family| nothing_is_lost(family, delay, 5, 10));
    if is_slow() {
        return row();
    }
    // Every drain waits for a retransmission, so there is time for two rows at once.
    thread::scope(|scope| {
        let other = scope.spawn(row);
        row()?;
        other.join().map_err(|_panic| anyhow!("panicked"))?
    })
}

/// So many flips, and so many restarts without steering for comparison. In an emulated machine a
/// flip takes seconds, so there are five at most; not so the restarts, of which five could lose
/// nothing by chance.
fn nothing_is_lost(family: Family, delay: Delay, flips: u32, restarts: u32) -> Result<()> {
    let flips = if is_slow() { flips.min(5) } else { flips };
    let restarting = Restarts {
        line: Line::Link(delay),
        ..Restarts::new(family, flips)
    };
    restarting.steered()?;
    let seen = restarting.plain(restarts)?;
    ensure!(seen.lost > 0, "this load would not notice a loss: {seen:?}");
    Ok(())
}
