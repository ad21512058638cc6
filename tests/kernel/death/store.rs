//! Promise: with systemd's descriptor store a crash loses nothing even if server and agent die
//! together, and nothing stays in the store that nobody needs.

use std::{fs, net::TcpListener, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, Fixture, Setup,
    fixture::works,
    network::{answered, answers},
    product::Store,
    wait::{self, SOON},
};
use synflip_bpf::service_dir;

use crate::helpers::{REGIMES, at_once::at_once};

/// An agent that is one of systemd's services.
fn stored(setup: &Setup) -> Result<(Fixture, Arc<Store>)> {
    let store = Arc::new(Store::new()?);
    Ok((setup.clone().store(&store).start()?, store))
}

/// Waits until so many descriptors are stored.
fn stores(fixture: &Fixture, store: &Store, count: usize) -> Result<()> {
    let stores = || store.names().is_ok_and(|names| names.len() == count);
    wait::until(&format!("{count} are stored"), SOON, stores)
        .with_context(|| format!("{:?}\n{}", store.names(), fixture.agent.log()))
}

#[test]
fn what_is_queued_outlives_agent_and_server() -> Result<()> {
    at_once(REGIMES, |regime| {
        let (mut fixture, store) = stored(&Setup::new().agent_args(regime))?;
        let first = fixture.first(&["--stop-accepting"])?;
        let waiting = fixture.net.clients(20)?;
        fixture.agent.kill(Signal::KILL)?;
        first.kill()?;
        ensure!(store.names()?.len() == 2, "{:?}", store.names());
        fixture.restart_agent()?;
        let status = fixture.wait_dead("gen1")?;
        ensure!(works(&status, "gen1"), "{status:#?}");
        // They wait for whoever comes, and so do new ones.
        let later = fixture.net.clients(5)?;
        let second = fixture.generation(2, &[])?;
        ensure!(answers(waiting)? == [2; 20], "not all by the successor");
        ensure!(answers(later)? == [2; 5], "not all by the successor");
        fixture.agent.check_counters()?;

        // Closed, they leave the store; those of the next generation take their place.
        stores(&fixture, &store, 2)?;
        let _third = fixture.generation(3, &[])?;
        fixture.agent.flip("gen3")?;
        second.wait_exit(SOON)?;
        ensure!(fixture.net.answers(5)? == [3; 5], "others answer");
        Ok(())
    })
    .map(drop)
}

/// That the store is what saves them: without it, the same loses them all.
#[test]
fn without_the_store_they_die() -> Result<()> {
    let (mut fixture, store) = stored(&Setup::new())?;
    let first = fixture.first(&["--stop-accepting"])?;
    let waiting = fixture.net.clients(5)?;
    fixture.agent.kill(Signal::KILL)?;
    first.kill()?;
    store.clear()?;
    fixture.restart_agent()?;
    let _second = fixture.generation(2, &[])?;
    for client in waiting {
        ensure!(answered(client).is_err(), "answered by nobody");
    }
    ensure!(fixture.net.answers(5)? == [2; 5], "the next ones");
    Ok(())
}

#[test]
fn the_store_has_what_the_agent_holds_and_nothing_else() -> Result<()> {
    // On IPv6 a forward flip leaves a tombstone, on IPv4 none.
    Family::both(|family| {
        let tombstones = usize::from(family == Family::V6);
        let (mut fixture, store) = stored(&Setup::new().family(family))?;
        let mut old = fixture.first(&[])?;
        stores(&fixture, &store, 2)?;
        for number in 2..5 {
            let new = fixture.generation(number, &[])?;
            let held = 4 + if number > 2 { tombstones } else { 0 };
            stores(&fixture, &store, held)?;
            // Given again by servers that come back, they are the same.
            fixture.restart_agent()?;
            let back = fixture.wait_back(&[&old.name, &new.name])?;
            ensure!(back.generations.len() == 2, "{back:#?}");
            stores(&fixture, &store, held)?;
            fixture.agent.flip(&new.name)?;
            old.wait_exit(SOON)?;
            stores(&fixture, &store, 2 + tombstones)?;
            old = new;
        }
        old.stop()?;
        stores(&fixture, &store, 0)
    })
}

#[test]
fn what_nobody_comes_for_is_closed_after_the_hold_time() -> Result<()> {
    let (mut fixture, store) = stored(&Setup::new().agent_args(&["--hold", "1"]))?;
    let first = fixture.first(&["--stop-accepting"])?;
    let waiting = fixture.net.clients(5)?;
    fixture.agent.kill(Signal::KILL)?;
    first.kill()?;
    // Nobody says anything to it.
    fixture
        .agent
        .restart_unasked(&fixture.net.server, &["--hold", "1"])?;
    stores(&fixture, &store, 0)?;
    for client in waiting {
        ensure!(answered(client).is_err(), "answered by nobody");
    }
    let log = fixture.agent.log();
    ensure!(log.contains("lost=5"), "{log}");
    let dir = service_dir(fixture.agent.bpffs(), "web");
    wait::until("its pins are gone", SOON, || !dir.exists())?;
    ensure!(fixture.agent.status()?.services.is_empty(), "a service");
    Ok(())
}

#[test]
fn what_no_pin_knows_is_let_go() -> Result<()> {
    let (mut fixture, store) = stored(&Setup::new())?;
    let first = fixture.first(&[])?;
    let fds = fixture.agent.open_fds()?;
    fixture.agent.kill(Signal::KILL)?;
    first.kill()?;
    fs::remove_dir_all(service_dir(fixture.agent.bpffs(), "web")).context("remove the pins")?;
    fixture.restart_agent()?;
    stores(&fixture, &store, 0)?;
    ensure!(
        fixture.agent.open_fds()? < fds,
        "the agent has kept the descriptors"
    );
    // Nobody holds them any more: the address is free, for one without SO_REUSEPORT too.
    let free = fixture
        .net
        .server
        .run(|| TcpListener::bind(fixture.net.address));
    free.context("bind where the service was").map(drop)
}
