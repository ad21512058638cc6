//! Promise: a flip is a point in time. Once it has committed, no connection request is created on
//! the old generation's listeners again, on any processor.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Netns,
    capability::scaled,
    note,
    product::{Agent, Generation, Operator, Spec},
    raw::{self, Flood},
    wait,
};
use synflip_wire::{ListenerStatus, ServiceStatus};

fn nothing_reaches_the_old_listeners_after_a_commit() -> Result<()> {
    for family in Family::BOTH {
        let netns = Netns::new()?;
        // Requests as long as there is room for them, cookies for the rest.
        netns.sysctl("net.ipv4.tcp_syncookies", "1")?;
        netns.sysctl("net.core.somaxconn", "16384")?;
        let agent = Agent::start(&netns)?;
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let start = |number, listeners| {
            let spec = Spec::new(number, (any, 4000).into(), listeners);
            let spec = spec.arg("--backlog").arg("16384");
            Generation::start(&netns, &agent, &spec)
        };
        let _servers = [start(1, 4)?, start(2, 3)?];
        let mut operator = Operator::new(&agent)?;
        wait::until("the first generation works", SOON, || {
            operator
                .service()
                .is_ok_and(|service| service.working.is_some())
        })?;

        let to = SocketAddr::new(raw::flood::server(family), 4000);
        let flood = Flood::start(&netns, to, 400_000_000, 600 * SECOND)?;
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
        agent.check_counters()?;
        let endpoints = operator.service()?.endpoints;
        ensure!(
            endpoints.iter().all(|e| e.selected >= arrived),
            "{endpoints:?}"
        );
    }
    Ok(())
}

/// Checks each listener of a generation: it was given nothing in between.
fn compare(committed: &ServiceStatus, later: &ServiceStatus, generation: &str) -> Result<()> {
    let later: BTreeMap<u32, &ListenerStatus> = listeners(later, generation)
        .map(|listener| (listener.slot, listener))
        .collect();
    for before in listeners(committed, generation) {
        let after = later.get(&before.slot).context("a listener has vanished")?;
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
    let named = service
        .generations
        .iter()
        .filter(move |g| g.name.as_str() == generation);
    named.flat_map(|generation| &generation.listeners)
}

const FLIPS: u32 = 30;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        nothing_reaches_the_old_listeners_after_a_commit
    }
}
