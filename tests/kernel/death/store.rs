//! With systemd's descriptor store a crash loses nothing even if server and agent die together,
//! and nothing stays in the store that nobody needs.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bpf::service_dir;
use synflip_bed::{
    product::{Generation, Options, Spec, Store},
    wait,
};

use synflip_wire::{GenerationStatus, Phase};

use crate::bed::{ADDRESS, Bed, SOON, answers, find, works};

/// A bed whose agent is one of systemd's services.
fn stored(args: &[&str]) -> Result<(Bed, Arc<Store>)> {
    let store = Arc::new(Store::new()?);
    let bed = Bed::with_options(Options {
        args: args.iter().map(ToString::to_string).collect(),
        store: Some(Arc::clone(&store)),
        ..Options::default()
    })?;
    Ok((bed, store))
}

fn what_is_queued_outlives_agent_and_server() -> Result<()> {
    for regime in [&[][..], &["--no-migration"]] {
        let (mut bed, store) = stored(regime)?;
        let first = bed.first(&["--stop-accepting"])?;
        let waiting = bed.clients(20)?;
        bed.agent.kill(Signal::KILL)?;
        kill(first)?;
        ensure!(store.names()?.len() == 2, "{:?}", store.names());
        bed.agent.restart(&bed.netns)?;
        let status = bed.until("its process is known to have ended", |service| {
            find(service, "gen1").is_some_and(|generation| generation.pids.is_empty())
        })?;
        ensure!(works(&status, "gen1"), "{status:#?}");
        // They wait for whoever comes, and so do new ones.
        let later = bed.clients(5)?;
        let second = bed.generation(2, &[])?;
        ensure!(answers(waiting)? == [2; 20], "not all by the successor");
        ensure!(answers(later)? == [2; 5], "not all by the successor");
        bed.agent.check_counters()?;

        // Closed, they leave the store; those of the next generation take their place.
        wait::until("the dead server's are gone", SOON, || {
            store.names().is_ok_and(|names| names.len() == 2)
        })
        .with_context(|| bed.agent.log())?;
        let _third = bed.generation(3, &[])?;
        bed.agent.flip("gen3")?;
        second.wait_exit(SOON)?;
        ensure!(bed.answers(5)? == [3; 5], "others answer");
    }
    Ok(())
}

/// That the store is what saves them: without it, the same loses them all.
fn without_the_store_they_die() -> Result<()> {
    let (mut bed, store) = stored(&[])?;
    let first = bed.first(&["--stop-accepting"])?;
    let waiting = bed.clients(5)?;
    bed.agent.kill(Signal::KILL)?;
    kill(first)?;
    store.clear()?;
    bed.agent.restart(&bed.netns)?;
    let _second = bed.generation(2, &[])?;
    for client in waiting {
        ensure!(answers(vec![client]).is_err(), "answered by nobody");
    }
    ensure!(bed.answers(5)? == [2; 5], "the next ones");
    Ok(())
}

fn the_store_has_what_the_agent_holds_and_nothing_else() -> Result<()> {
    // On IPv6 a forward flip leaves a tombstone, on IPv4 none.
    for (ip, tombstones) in [
        (SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)), 0),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, 4000)), 1),
    ] {
        let (mut bed, store) = stored(&[])?;
        let stores = |bed: &Bed, count: usize| {
            let stores = || store.names().is_ok_and(|names| names.len() == count);
            wait::until(&format!("{count} are stored"), SOON, stores)
                .with_context(|| format!("{ip}: {:?}\n{}", store.names(), bed.agent.log()))
        };
        let start = |bed: &Bed, number| {
            let spec = Spec::new(number, ip, 2);
            let generation = Generation::start(&bed.netns, &bed.agent, &spec);
            bed.until("one works", |service| service.working.is_some())?;
            generation
        };
        let mut old = start(&bed, 1)?;
        stores(&bed, 2)?;
        for number in 2..5 {
            let new = start(&bed, number)?;
            stores(&bed, 4 + if number > 2 { tombstones } else { 0 })?;
            // Given again by servers that come back, they are the same.
            bed.agent.restart(&bed.netns)?;
            bed.until("both are back", |service| {
                let mut generations = service.generations.iter();
                let is_back =
                    |g: &GenerationStatus| !g.pids.is_empty() && g.phase != Phase::Registered;
                generations.len() == 2 && generations.all(is_back)
            })?;
            stores(&bed, 4 + if number > 2 { tombstones } else { 0 })?;
            bed.agent.flip(&new.name)?;
            old.wait_exit(SOON)?;
            stores(&bed, 2 + tombstones)?;
            old = new;
        }
        old.signal(Signal::TERM)?;
        old.wait_exit(SOON)?;
        stores(&bed, 0)?;
    }
    Ok(())
}

fn what_nobody_comes_for_is_closed_after_the_hold_time() -> Result<()> {
    let (mut bed, store) = stored(&["--hold", "1"])?;
    let first = bed.first(&["--stop-accepting"])?;
    let waiting = bed.clients(5)?;
    bed.agent.kill(Signal::KILL)?;
    kill(first)?;
    // Nobody says anything to it.
    bed.agent.restart_unasked(&bed.netns, &["--hold", "1"])?;
    wait::until("nothing is stored", SOON, || {
        store.names().is_ok_and(|names| names.is_empty())
    })
    .with_context(|| bed.agent.log())?;
    ensure!(answers(waiting).is_err(), "answered by nobody");
    ensure!(bed.agent.log().contains("lost=5"), "{}", bed.agent.log());
    let dir = service_dir(bed.agent.bpffs(), "web");
    wait::until("its pins are gone", SOON, || !dir.exists())?;
    ensure!(bed.agent.status()?.services.is_empty(), "a service");
    Ok(())
}

fn what_no_pin_knows_is_let_go() -> Result<()> {
    let (mut bed, store) = stored(&[])?;
    let first = bed.first(&[])?;
    let fds = bed.agent.open_fds()?;
    bed.agent.kill(Signal::KILL)?;
    kill(first)?;
    fs::remove_dir_all(service_dir(bed.agent.bpffs(), "web")).context("remove the pins")?;
    bed.agent.restart(&bed.netns)?;
    wait::until("nothing is stored", SOON, || {
        store.names().is_ok_and(|names| names.is_empty())
    })
    .with_context(|| bed.agent.log())?;
    ensure!(
        bed.agent.open_fds()? < fds,
        "the agent has kept the descriptors"
    );
    // Nobody holds them any more: the address is free, for one without SO_REUSEPORT too.
    let free = bed.netns.run(|| TcpListener::bind(ADDRESS));
    free.context("bind where the service was").map(drop)
}

/// Kills a server and waits for its end.
fn kill(mut server: Generation) -> Result<()> {
    server.signal(Signal::KILL)?;
    wait::until("the server's process ends", SOON, || server.has_ended())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        what_is_queued_outlives_agent_and_server
        without_the_store_they_die
        the_store_has_what_the_agent_holds_and_nothing_else
        what_nobody_comes_for_is_closed_after_the_hold_time
        what_no_pin_knows_is_let_go
    }
}
