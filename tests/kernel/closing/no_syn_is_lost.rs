//! Promise: closing the listeners of a generation that has drained, or has never worked, loses no
//! SYN, whichever of the group they are. Without tombstones it does.

use std::thread;

use anyhow::{Result, ensure};
use synflip_bed::{
    Family,
    capability::{is_slow, scaled},
    note,
    raw::FloodReport,
};

use super::restarts::{Closing, close};

// IPv6 puts the oldest listener first into its hash bucket, IPv4 the newest: these are the two
// ways in which the first one is among those that close. Old listeners close oldest first, so that
// each is the first when it closes; of new ones it is the last of each generation alone.

#[test]
fn flips_forward_over_ipv6_lose_no_syn() -> Result<()> {
    closes_lose_nothing(Family::V6, &[])
}

#[test]
fn flips_forward_over_ipv6_lose_no_syn_without_migration() -> Result<()> {
    closes_lose_nothing(Family::V6, &["--no-migration"])
}

#[test]
fn rollbacks_over_ipv4_lose_no_syn() -> Result<()> {
    closes_lose_nothing(Family::V4, &[])
}

#[test]
fn rollbacks_over_ipv4_lose_no_syn_without_migration() -> Result<()> {
    closes_lose_nothing(Family::V4, &["--no-migration"])
}

#[test]
fn without_tombstones_flips_forward_lose_syns() -> Result<()> {
    closes_lose_syns(Family::V6)
}

#[test]
fn without_tombstones_rollbacks_lose_syns() -> Result<()> {
    closes_lose_syns(Family::V4)
}

/// Generations of many listeners, or more generations: many closes of the first listener of the
/// bucket. Without a tombstone, one in twenty to a hundred loses a SYN.
fn closes_lose_nothing(family: Family, args: &[&str]) -> Result<()> {
    let (closing, generations, listeners) = match family {
        Family::V4 => (Closing::New, 120, 2),
        Family::V6 => (Closing::Old, 25, 40),
    };
    let rounds = usize::try_from(scaled(generations))?;
    // One round more than needed: its tombstone stays open.
    let outcome = close(family, args, closing, rounds + 1, listeners)?;
    let FloodReport {
        lost, rst, sent, ..
    } = outcome.flood;
    note(&format!(
        "{family:?} {args:?}: {} closes, {lost} of {sent} SYNs lost, {rst} resets, {:.0} SYN/s",
        outcome.closes, outcome.flood.per_second
    ));
    ensure!(outcome.closes >= rounds * listeners, "{outcome:?}");
    ensure!(lost == 0 && rst == 0, "{outcome:?}");
    ensure!(
        sent >= 10 * outcome.closes as u64,
        "too few SYNs to meet a close: {outcome:?}"
    );
    ensure!(
        outcome.steered >= sent,
        "SYNs went past the program: {outcome:?}"
    );
    ensure!(
        outcome.fds.0 == outcome.fds.1,
        "descriptors of the agent: {outcome:?}"
    );
    Ok(())
}

/// The same until the first loss; where that takes too long, until the first SYN that the program
/// did not see, which may become one. On one processor a lookup cannot meet a close.
fn closes_lose_syns(family: Family) -> Result<()> {
    let (closing, rounds, listeners) = match family {
        Family::V4 => (Closing::New, 20, 1),
        Family::V6 => (Closing::Old, 2, 20),
    };
    let args = ["--no-migration", "--no-tombstones"];
    let (mut closes, mut lost, mut past) = (0, 0, 0);
    let met = |lost, past| lost > 0 || (is_slow() && past > 0);
    while !met(lost, past) && closes < 5000 {
        let outcome = close(family, &args, closing, rounds, listeners)?;
        closes += outcome.closes;
        lost += outcome.flood.lost;
        past += outcome.flood.sent.saturating_sub(outcome.steered);
    }
    note(&format!(
        "{family:?} {args:?}: {closes} closes, {past} SYNs went past the program, {lost} lost"
    ));
    let processors = thread::available_parallelism()?.get();
    ensure!(
        met(lost, past) || processors == 1,
        "{closes} closes without a tombstone have lost nothing"
    );
    Ok(())
}
