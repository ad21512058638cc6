//! Promise: a table is followed in equal shares, and by all endpoints from one moment on.

use std::{collections::BTreeMap, io, net::TcpStream, thread};

use anyhow::{Result, anyhow, ensure};
use synflip_bed::{
    Family,
    capability::is_slow,
    wait::{self, SOON},
};
use synflip_plan::Table;

/// A slot as it is in a table.
type Slot = u32;

use super::bench::{Bench, any};

#[test]
fn slots_get_equal_shares() -> Result<()> {
    // Enough to notice shares that differ by a tenth; by a fifth, in an emulated machine.
    let connections: usize = if is_slow() { 1000 } else { 4000 };
    for count in [2, 3, 4, 7] {
        let mut bench = Bench::new()?;
        let (first, address) = bench.listen(0, any(Family::V4))?;
        let table = [vec![first], bench.listen_beside(0, address, count - 1)?].concat();
        bench.publish(&[&table])?;
        let accepted = bench.connect(address, connections)?;
        let expected = connections as f64 / count as f64;
        let deviation = |slot: &Slot| {
            let found = accepted.get(slot).copied().unwrap_or(0) as f64;
            (found - expected).powi(2) / expected
        };
        let chi_square: f64 = table.iter().map(deviation).sum();
        // With six degrees of freedom, more than 50 comes up once in 10^8 runs.
        ensure!(chi_square < 50.0, "{chi_square} for {accepted:?}");
    }
    Ok(())
}

#[test]
fn two_endpoints_change_at_one_moment() -> Result<()> {
    let mut bench = Bench::new()?;
    let (a0, web) = bench.listen(0, any(Family::V4))?;
    let b0 = bench.listen_beside(0, web, 1)?[0];
    let (a1, admin) = bench.listen(1, any(Family::V6))?;
    let b1 = bench.listen_beside(1, admin, 1)?[0];
    let tables: [[&[Slot]; 2]; 2] = [[&[a0], &[a1]], [&[b0], &[b1]]];
    bench.publish(&tables[0])?;

    for round in 1..=20 {
        let next = tables[round % 2];
        let cookies: BTreeMap<Slot, u64> = bench
            .listeners
            .iter()
            .map(|(slot, (_, socket))| Ok((*slot, socket.cookie()?)))
            .collect::<io::Result<_>>()?;
        let members: Vec<_> = next
            .concat()
            .iter()
            .map(|slot| (*slot, cookies[slot]))
            .collect();
        let table = Table::new(next);
        let mut changed = None;
        thread::scope(|scope| -> Result<()> {
            let (publisher, listeners, netns) =
                (&mut bench.publisher, &bench.listeners, &bench.netns);
            let publishing = scope.spawn(move || publisher.publish(&table.words(), &members));
            // One after the other, to the one and the other: never back to the old table.
            for turn in 0.. {
                let is_over = publishing.is_finished();
                let to = [web, admin][turn % 2];
                let client = netns.run(|| TcpStream::connect_timeout(&to, SOON))?;
                let mut got = None;
                wait::until("a connection is accepted", SOON, || {
                    let mut all = listeners.iter();
                    got = all
                        .find_map(|(slot, (_, socket))| socket.accept().is_ok().then_some(*slot));
                    got.is_some()
                })?;
                drop(client);
                let is_new = got.is_some_and(|slot| next.concat().contains(&slot));
                ensure!(
                    is_new || changed.is_none(),
                    "{to} is behind since {changed:?}, at {turn}"
                );
                ensure!(
                    is_new || !is_over,
                    "{to} follows the old table after the publication"
                );
                if is_new {
                    changed.get_or_insert(turn);
                }
                if is_over && turn > 4 {
                    break;
                }
            }
            publishing.join().map_err(|_panic| anyhow!("panicked"))??;
            Ok(())
        })?;
        ensure!(changed.is_some(), "round {round} changed nothing");
    }
    Ok(())
}
