//! Promise: a server that has lost its connection to the agent, and not its listeners, comes back
//! to them.

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{Family, Setup, fixture::find};

use crate::helpers::{
    bare::{ASKED, Bare, came_to},
    works_with,
};

#[test]
fn a_server_comes_back_to_its_listeners_whatever_became_of_them() -> Result<()> {
    // On IPv6 the oldest listener is the first of its hash bucket, and becomes a tombstone.
    let fixture = Setup::new().family(Family::V6).start()?;
    let mut process = Bare::start(&fixture, 1, 2)?;
    // Another process of the same generation.
    let sibling = Bare::start(&fixture, 1, 2)?;
    fixture.until("both work", |service| works_with(service, 4))?;
    for round in 0..3 {
        process.hang_up()?;
        fixture
            .until("its listeners are out of use", |service| {
                let listeners = find(service, "gen1").map(|gen1| gen1.listeners.len());
                listeners == Some(2) && service.endpoints[0].tombstones == 1
            })
            .with_context(|| format!("round {round}"))?;
        let come_back = process.come_back(&fixture);
        come_back.with_context(|| format!("round {round}"))?;
        let status = fixture.until("it works again", |service| works_with(service, 4))?;
        ensure!(status.endpoints[0].tombstones == 0, "{status:#?}");
        let came = came_to(&fixture, &[&process, &sibling])?;
        ensure!(
            came.iter().all(|count| *count > 0),
            "round {round}: {came:?}"
        );
        let sum: usize = came.iter().sum();
        ensure!(sum == ASKED, "round {round}: {came:?}");
    }
    fixture.agent.check_counters()
}
