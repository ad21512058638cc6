//! Promise: the share of a listener that the published table has and that has ended goes to its
//! siblings.

use std::net::{Shutdown, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::Family;

use super::bench::{Bench, any};

/// How a listener of the published table goes away.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Shutdown,
}

#[test]
fn the_share_of_listeners_that_end_goes_to_their_siblings() -> Result<()> {
    // One is left, the first, the last or another.
    let alone = [0, 7, 15].map(|alive| 0xffff & !(1 << alive));
    for family in Family::BOTH {
        let mut bench = Bench::new()?;
        let (_, address) = bench.listen(0, any(family))?;
        bench.listen_beside(0, address, 1)?;
        let (some, one) = match family {
            Family::V4 => (End::Close, End::Shutdown),
            Family::V6 => (End::Shutdown, End::Close),
        };
        let some = (1..15).map(|mask| (some, 4, mask));
        for (how, size, mask) in some.chain(alone.map(|mask| (one, 16, mask))) {
            end_some(&mut bench, address, how, size, mask)
                .with_context(|| format!("{family:?}, {how:?}, {mask:04b}"))?;
        }
    }
    Ok(())
}

/// Publishes a table of so many listeners, ends those whose bit is set, and looks where their
/// share goes.
fn end_some(
    bench: &mut Bench,
    address: SocketAddr,
    how: End,
    size: usize,
    mask: u32,
) -> Result<()> {
    let table = bench.listen_beside(0, address, size)?;
    bench.publish(&[&table])?;
    let some = |ended: bool| -> Vec<u32> {
        let with_bits = (0..)
            .zip(&table)
            .filter(|(bit, _)| (mask >> bit & 1 == 1) == ended);
        with_bits.map(|(_, slot)| *slot).collect()
    };
    let (ended, left) = (some(true), some(false));
    for slot in &ended {
        match how {
            End::Close => drop(bench.listeners.remove(slot)),
            End::Shutdown => bench.listeners[slot].1.shutdown(Shutdown::Read)?,
        }
    }
    let before = (bench.outcomes(0)?, bench.given(&left)?);
    let accepted = bench.connect(address, 100)?;
    ensure!(
        accepted.keys().all(|slot| left.contains(slot)),
        "beside {left:?}: {accepted:?}"
    );
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.selected - before.0.selected == 100 && outcomes.fell_back == 0,
        "{before:?}, {outcomes:?}"
    );
    let (selected, retried) = bench.given(&left)?;
    ensure!(
        selected - before.1.0 == 100 && retried > before.1.1,
        "{before:?}, {selected} selected, {retried} retried"
    );
    // The next table has the place for itself.
    for slot in &table {
        bench.listeners.remove(slot);
    }
    Ok(())
}
