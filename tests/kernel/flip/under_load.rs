//! Promise: nothing is lost on a flip, at any distance between the clients and the server.

#[path = "common/campaign.rs"]
mod campaign;
#[path = "common/seed.rs"]
mod seed;

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::RngExt as _;
use synflip_bed::{Delay, Family, capability::is_slow, link, note};

use campaign::Campaign;
use seed::with_seed;

fn a_hundred_flips_at_1_ms_lose_nothing() -> Result<()> {
    nothing_is_lost(Delay::of(MS), 50, 10)
}

fn flips_at_20_ms_lose_nothing() -> Result<()> {
    nothing_is_lost(Delay::of(20 * MS), 16, 5)
}

fn flips_lose_nothing_when_packets_are_lost() -> Result<()> {
    let delay = Delay {
        rtt: MS,
        loss: 0.01,
        seed: 0,
    };
    nothing_is_lost(delay, 10, 5)
}

/// So many flips over each family, and so many restarts without steering for comparison; in an
/// emulated machine, where each takes seconds, five at most.
fn nothing_is_lost(delay: Delay, flips: u32, restarts: u32) -> Result<()> {
    let at_most = if is_slow() { 5 } else { u32::MAX };
    let (flips, restarts) = (flips.min(at_most), restarts.min(at_most));
    for family in Family::BOTH {
        with_seed(|rng| {
            let delay = Delay {
                seed: rng.random(),
                ..delay
            };
            let campaign = Campaign::new((link::server(family), 8080).into(), delay, flips);
            let story = campaign.steered(rng)?;
            let seen = &story.report;
            note(&format!(
                "{family:?} at {:?}, loss {}: {flips} flips, {} connections, {} lost, {} SYNs \
                 sent again, {:?}",
                delay.rtt, delay.loss, seen.ok, seen.lost, story.syns_again, seen.latency_us
            ));
            // Each fifth flip is made three times.
            let (number, epoch) = (u64::from(flips) + 1, story.service.epoch);
            ensure!(epoch == number + 2 * (number / 5), "{epoch} flips");
            let seen = campaign.plain(rng, restarts)?;
            note(&format!(
                "the same without steering: {restarts} restarts, {} connections, {} lost",
                seen.ok, seen.lost
            ));
            ensure!(seen.lost > 0, "this load would not notice a loss: {seen:?}");
            Ok(())
        })?;
    }
    Ok(())
}

const MS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_hundred_flips_at_1_ms_lose_nothing
        flips_at_20_ms_lose_nothing
        flips_lose_nothing_when_packets_are_lost
    }
}
