//! Promise: a flip is a point in time. Once it has committed, no connection request is created on
//! the old generation's listeners again, on any processor.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Setup,
    capability::scaled,
    fixture::find,
    note,
    product::{Operator, Spec},
    raw::{self, Flood},
    wait::{self, MS, SECOND, SOON},
};
use synflip_wire::{ListenerStatus, ServiceStatus};

#[test]
fn nothing_reaches_the_old_listeners_after_a_commit() -> Result<()> {
    for family in Family::BOTH {
        let fixture = Setup::new()
            .family(family)
            // Requests as long as there is room for them, cookies for the rest.
            .sysctl("net.ipv4.tcp_syncookies", "1")
            .sysctl("net.core.somaxconn", "16384")
            .start()?;
        let spec = |number, listeners| {
            Spec::new(number, (family.any(), PORT).into(), listeners).args(&["--backlog", "16384"])
        };
        let _old = fixture.start_working(&spec(1, 4))?;
        let _new = fixture.start(&spec(2, 3))?;
        let mut operator = Operator::new(&fixture.agent)?;

        let to = SocketAddr::new(raw::flood::server(family), PORT);
        let flood = Flood::start(&fixture.net.server, to, 400_000_000, 600 * SECOND)?;
        let count = usize::try_from(scaled(FLIPS))?;
        let (mut flips, mut on_the_way, mut arrived) = (0, 0, 0);
        for (from, to) in [("gen1", "gen2"), ("gen2", "gen1")]
            .into_iter()
            .cycle()
            .take(count)
        {
            let before = operator.service()?;
            operator.flip(to, true, Duration::ZERO)?;
            let committed = operator.service()?;
            wait::pause(50 * MS);
            let mut later = operator.service()?;
            let news = |later: &ServiceStatus| selected(later, to) - selected(&committed, to);
            let thousands = "thousands of SYNs at the new generation";
            wait::until(thousands, SOON, || match operator.service() {
                Ok(service) => {
                    later = service;
                    news(&later) >= 2000
                }
                Err(_) => false,
            })?;
            compare(&committed, &later, from)
                .with_context(|| format!("flip {flips} from {from}: {committed:?} {later:?}"))?;
            flips += 1;
            on_the_way += selected(&committed, from) - selected(&before, from);
            arrived += news(&later);
        }
        let report = flood.stop()?;
        note(&format!(
            "{family:?}: {flips} flips, {on_the_way} SYNs reached the old listeners between the \
             request and the commit, none after it, {arrived} the new ones; {report:?}"
        ));
        // A reading taken a moment before the commit does not hold, so one after it means something.
        ensure!(on_the_way > 0, "nothing was on its way at any commit");
        fixture.check_steered(arrived)?;
    }
    Ok(())
}

/// Checks each listener of a generation: it was given nothing in between.
fn compare(committed: &ServiceStatus, later: &ServiceStatus, generation: &str) -> Result<()> {
    let later: BTreeMap<u32, &ListenerStatus> = listeners(later, generation)
        .map(|listener| (listener.slot.0, listener))
        .collect();
    for before in listeners(committed, generation) {
        let after = later
            .get(&before.slot.0)
            .context("a listener has vanished")?;
        ensure!(
            (after.selected, after.retried) == (before.selected, before.retried),
            "selected again: {before:?} {after:?}"
        );
        let (Some(had), Some(has)) = (before.half_open, after.half_open) else {
            continue;
        };
        ensure!(has <= had, "a request was created: {before:?} {after:?}");
    }
    Ok(())
}

fn selected(service: &ServiceStatus, generation: &str) -> u64 {
    listeners(service, generation)
        .map(|listener| listener.selected)
        .sum()
}

fn listeners<'a>(
    service: &'a ServiceStatus,
    generation: &'a str,
) -> impl Iterator<Item = &'a ListenerStatus> {
    find(service, generation)
        .into_iter()
        .flat_map(|generation| &generation.listeners)
}

const FLIPS: u32 = 30;
const PORT: u16 = 4000;
