//! Promise: each listener of the published table gets connections, and no other.

use anyhow::{Result, ensure};
use synflip_bed::Family;

use super::bench::{Bench, any};

#[test]
fn new_connections_follow_the_published_table() -> Result<()> {
    for family in Family::BOTH {
        let mut bench = Bench::new()?;
        let (first, address) = bench.listen(0, any(family))?;
        let old = [vec![first], bench.listen_beside(0, address, 3)?].concat();
        let new = bench.listen_beside(0, address, 3)?;
        let outsider = bench.listen_beside(0, address, 1)?;
        for round in 0..3 {
            for table in [&old, &new] {
                bench.publish(&[table])?;
                let accepted = bench.connect(address, 200)?;
                // Each of the table, and nobody else.
                ensure!(
                    accepted.keys().eq(table),
                    "{family:?}, round {round}: {accepted:?}"
                );
            }
        }
        let outcomes = bench.outcomes(0)?;
        ensure!(
            outcomes.runs == 1200 && outcomes.selected == 1200,
            "{outcomes:?}"
        );
        ensure!(bench.given(&old)? == (600, 0), "{:?}", bench.given(&old)?);
        ensure!(bench.given(&new)? == (600, 0), "{:?}", bench.given(&new)?);
        ensure!(
            bench.given(&outsider)? == (0, 0),
            "an outsider was selected"
        );
    }
    Ok(())
}
