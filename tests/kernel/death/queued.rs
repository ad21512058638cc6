//! Promise: a crash loses nothing that was queued, and the agent can be left alone.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bpf::service_dir;
use synflip_bed::{
    capability,
    product::{Generation, Spec},
    raw::{self, RawClient, Reply},
};
use synflip_wire::Phase;

#[path = "bed.rs"]
mod bed;
#[path = "crash/pins.rs"]
mod pins;
#[path = "crash/store.rs"]
mod store;

use bed::{Bed, SOON, answers, find, works};

/// Both ways to rescue a queue, whatever this kernel can do.
const REGIMES: [&[&str]; 2] = [&[], &["--no-migration"]];

fn a_successor_serves_what_was_queued_on_a_killed_generation() -> Result<()> {
    for regime in REGIMES {
        let bed = Bed::with(regime)?;
        let first = bed.first(&["--stop-accepting"])?;
        let _second = bed.generation(2, &[])?;
        let waiting = bed.clients(50)?;
        first.signal(Signal::KILL)?;
        ensure!(
            answers(waiting)? == [2; 50],
            "{regime:?}: not all by the successor"
        );
        let status = bed.until("the successor works", |service| works(service, "gen2"))?;
        ensure!(status.epoch == 2, "{regime:?}: epoch {}", status.epoch);
        bed.agent.check_counters()?;
    }
    Ok(())
}

/// Without systemd nobody holds what both leave: the kernel moves it, if it can.
fn what_server_and_agent_leave_together_moves_to_a_generation_that_lives() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    for agent_first in [true, false] {
        let mut bed = Bed::new()?;
        let first = bed.first(&["--stop-accepting"])?;
        let second = bed.generation(2, &[])?;
        let waiting = bed.clients(20)?;
        let netns = Arc::clone(&bed.netns);
        let mut kill_agent = || bed.agent.kill(Signal::KILL);
        if agent_first {
            kill_agent()?;
            first.signal(Signal::KILL)?;
        } else {
            // It may have noticed, and begun to act.
            first.signal(Signal::KILL)?;
            kill_agent()?;
        }
        ensure!(
            answers(waiting)? == [2; 20],
            "not all by the one that lives"
        );
        bed.agent.restart(&netns)?;
        bed.until("it works", |service| works(service, "gen2"))?;
        ensure!(bed.answers(10)? == [2; 10], "others answer");
        drop((first, second));
    }
    Ok(())
}

fn connections_wait_for_a_generation_that_comes_within_the_hold_time() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let mut waiting = bed.clients(30)?;
    first.signal(Signal::KILL)?;
    bed.until("its death is noticed", |service| {
        find(service, "gen1").is_some_and(|generation| generation.pids.is_empty())
    })?;
    // Nobody is alive, and nobody is refused.
    waiting.extend(bed.clients(10)?);
    let _second = bed.generation(2, &[])?;
    ensure!(answers(waiting)? == [2; 40], "not all by the successor");
    bed.agent.check_counters()
}

fn after_the_hold_time_nothing_is_left_behind() -> Result<()> {
    let bed = Bed::with(&["--hold", "1"])?;
    let before = bed.agent.settled_fds()?;
    let first = bed.first(&["--stop-accepting"])?;
    let waiting = bed.clients(5)?;
    first.signal(Signal::KILL)?;
    ensure!(answers(waiting).is_err(), "answered by nobody");
    synflip_bed::wait::until("the service is gone", SOON, || {
        bed.agent
            .status()
            .is_ok_and(|status| status.services.is_empty())
    })?;
    ensure!(
        !service_dir(bed.agent.bpffs(), "web").exists(),
        "its pins are there still"
    );
    ensure!(
        bed.agent.log().contains("lost=5"),
        "the log does not say how many were lost"
    );
    let after = bed.agent.settled_fds()?;
    ensure!(after == before, "{after} descriptors, not {before}");
    // And a fresh start trips over nothing.
    let _again = bed.first(&[])?;
    ensure!(bed.answers(10)? == [1; 10]);
    Ok(())
}

fn a_handshake_outlives_its_server() -> Result<()> {
    for regime in REGIMES {
        let bed = Bed::with(regime)?;
        let client = RawClient::new(&bed.netns)?;
        let family = synflip_bed::Family::V4;
        let to = (raw::server(family), 4001).into();
        let start = |number| Generation::start(&bed.netns, &bed.agent, &Spec::new(number, to, 2));
        let first = start(1)?;
        bed.until("the first works", |service| works(service, "gen1"))?;
        let _second = start(2)?;
        let mut half_open = client.syn(raw::client(family, 2, 5000), to)?;
        ensure!(half_open.recv_syn_ack(SOON)? == Reply::SynAck);
        first.signal(Signal::KILL)?;
        bed.until("the second works", |service| works(service, "gen2"))?;
        half_open.ack()?;
        half_open.send(b"12345678")?;
        match half_open.recv_data(SOON)? {
            Reply::Data(answer) => ensure!(answer[8] == 2, "{regime:?}: by another: {answer:?}"),
            other => anyhow::bail!("{regime:?}: no answer but {other:?}"),
        }
    }
    Ok(())
}

fn what_was_lent_to_a_process_that_dies_first_goes_to_the_next() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let waiting = bed.clients(20)?;
    // It is lent the queue, and accepts nothing.
    let second = bed.generation(2, &["--stop-accepting"])?;
    first.signal(Signal::KILL)?;
    bed.until("the second works", |service| works(service, "gen2"))?;
    synflip_bed::wait::until("the queues are lent", SOON, || {
        bed.agent.log().matches("its queue is lent").count() == 2
    })?;
    let _third = bed.generation(3, &[])?;
    second.signal(Signal::KILL)?;
    ensure!(answers(waiting)? == [3; 20], "not all by the third");
    bed.agent.check_counters()
}

fn a_drain_goes_on_after_the_agent_was_killed() -> Result<()> {
    let mut bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let waiting = bed.clients(20)?;
    let _second = bed.generation(2, &[])?;
    bed.agent.flip_with("gen2", &["--no-wait"])?;
    bed.agent.restart(&bed.netns)?;
    let status = bed.until("both are back", |service| {
        let back = |name| find(service, name).is_some_and(|g| !g.pids.is_empty());
        back("gen1") && back("gen2")
    })?;
    ensure!(works(&status, "gen2") && status.epoch == 2, "{status:#?}");
    let draining = find(&status, "gen1").map(|generation| generation.phase);
    ensure!(draining == Some(Phase::Draining), "{draining:?}");
    first.signal(Signal::USR1)?;
    ensure!(
        answers(waiting)? == [1; 20],
        "not all by the generation that had them"
    );
    let exit = first.wait_exit(SOON)?;
    ensure!(exit.served == 20, "{exit:?}");
    bed.agent.check_counters()
}

fn clients_do_not_notice_that_the_agent_dies() -> Result<()> {
    let mut bed = Bed::new()?;
    let first = bed.first(&[])?;
    let load = bed.load(8);
    load.more(200)?;
    bed.agent.kill(Signal::KILL)?;
    load.more(200)?;
    bed.agent.restart(&bed.netns)?;
    let second = bed.generation(2, &[])?;
    load.more(200)?;
    bed.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.len() == 2, "{report:?}");
    drop(second);
    bed.agent.check_counters()
}

fn a_flip_away_from_those_who_are_not_back_waits_for_them() -> Result<()> {
    let mut bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let _second = bed.generation(2, &[])?;
    let waiting = bed.clients(10)?;
    // It cannot come back while it is stopped, and its queue cannot be seen.
    first.signal(Signal::STOP)?;
    bed.agent.restart(&bed.netns)?;
    bed.until("the second is back and ready", |service| {
        find(service, "gen2").is_some_and(|generation| generation.phase == Phase::Ready)
    })?;
    let flip = bed
        .agent
        .cli(&["flip", "--to", "gen2", "--timeout", "1", "--json"])?;
    ensure!(
        flip.code == 4,
        "called drained what nobody has looked at: {flip:?}"
    );
    first.signal(Signal::CONT)?;
    first.signal(Signal::USR1)?;
    ensure!(answers(waiting)? == [1; 10]);
    first.wait_exit(Duration::from_secs(60))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_successor_serves_what_was_queued_on_a_killed_generation
        what_server_and_agent_leave_together_moves_to_a_generation_that_lives
        connections_wait_for_a_generation_that_comes_within_the_hold_time
        after_the_hold_time_nothing_is_left_behind
        a_handshake_outlives_its_server
        what_was_lent_to_a_process_that_dies_first_goes_to_the_next
        a_drain_goes_on_after_the_agent_was_killed
        clients_do_not_notice_that_the_agent_dies
        a_flip_away_from_those_who_are_not_back_waits_for_them
    }
}
