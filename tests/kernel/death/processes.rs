//! A generation's processes come and go, and the agent keeps account.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bpf::service_dir;
use synflip_bed::{
    product::{Generation, Operator, Spec},
    wait,
};
use synflip_wire::ServiceStatus;

use super::{begin, end};
use crate::bed::{ADDRESS, Bed, SOON, answers, find};

/// Clients of a load: at most so many connections are in service at one time.
const CLIENTS: usize = 8;

fn a_second_process_gets_its_share_and_its_death_costs_only_what_it_served() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&[])?;
    // Another number under the same name: its answers can be told apart.
    let spec = Spec::new(7, ADDRESS, 2).joins("gen1");
    let sibling = Generation::start(&bed.netns, &bed.agent, &spec)?;
    let status = bed.until("both processes work", |service| works_with(service, 4))?;
    let pids = find(&status, "gen1").map(|generation| generation.pids.clone());
    ensure!(pids == Some(vec![first.pid(), sibling.pid()]), "{pids:?}");

    let numbers = bed.answers(400)?;
    let share = numbers.iter().filter(|number| **number == 7).count();
    ensure!((100..300).contains(&share), "{share} of 400");

    let load = bed.load(CLIENTS);
    load.more(300)?;
    sibling.signal(Signal::KILL)?;
    let status = bed.until("the table is published without it", |s| works_with(s, 2))?;
    let pids = find(&status, "gen1").map(|generation| generation.pids.clone());
    ensure!(pids == Some(vec![first.pid()]), "{pids:?}");
    let numbers = bed.answers(200)?;
    ensure!(numbers == [1; 200], "a dead process is asked: {numbers:?}");
    load.more(300)?;
    let report = load.finish()?;
    ensure!(usize::try_from(report.lost)? <= CLIENTS, "{report:?}");
    // What was queued on it has not waited in vain.
    ensure!(report.refused == 0 && report.timeout == 0, "{report:?}");
    bed.agent.check_counters()
}

fn what_is_queued_on_a_process_that_dies_is_served_by_its_sibling() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&[])?;
    let dying = Spec::new(7, ADDRESS, 2)
        .joins("gen1")
        .arg("--stop-accepting");
    let dying = Generation::start(&bed.netns, &bed.agent, &dying)?;
    bed.until("both processes work", |service| works_with(service, 4))?;
    let clients = bed.clients(60)?;
    let waiting = |service: &ServiceStatus| {
        let listeners = find(service, "gen1").map(|generation| generation.listeners.iter());
        let own = listeners.into_iter().flatten().skip(2);
        own.filter(|listener| listener.queued > Some(0)).count() == 2
    };
    bed.until("both of its listeners have something queued", waiting)?;
    dying.signal(Signal::KILL)?;
    bed.until("the table is published without it", |service| {
        works_with(service, 2)
    })?;
    ensure!(answers(clients)? == [1; 60], "other answers");
    drop(first);
    bed.agent.check_counters()
}

fn a_flip_waits_for_the_table_without_a_dead_process() -> Result<()> {
    const TIMES: u32 = 10;
    let bed = Bed::new()?;
    let mut old = bed.first(&[])?;
    let mut operator = Operator::new(&bed.agent)?;
    for number in 2..2 + TIMES {
        let sibling = Spec::new(1000, ADDRESS, 1).joins(&old.name);
        let sibling = Generation::start(&bed.netns, &bed.agent, &sibling)?;
        let new = bed.generation(number, &[])?;
        bed.until("both processes work", |service| works_with(service, 3))?;
        sibling.signal(Signal::KILL)?;
        // From the moment the agent knows it until that table is published.
        wait::until("its death is noticed", SOON, || {
            let service = operator.service().ok();
            service.is_some_and(|s| find(&s, &old.name).is_some_and(|g| g.pids.len() == 1))
        })?;
        operator.flip(&new.name, false, SOON)?;
        operator.drained(SOON)?;
        old.wait_exit(SOON)?;
        old = new;
    }
    bed.agent.check_counters()
}

fn an_agent_without_servers_holds_nothing() -> Result<()> {
    let bed = Bed::new()?;
    let pins = service_dir(bed.agent.bpffs(), "web");
    let fds = bed.agent.settled_fds()?;
    for round in 0..2 {
        ensure!(!pins.exists(), "round {round}: pins without a service");
        let first = bed.first(&[])?;
        let second = bed.generation(2, &[])?;
        let load = bed.load(8);
        load.more(100)?;
        bed.agent.flip("gen2")?;
        first.wait_exit(SOON)?;
        load.finish_unharmed()?;
        ensure!(pins.exists(), "round {round}: no pins");
        second.signal(Signal::TERM)?;
        second.wait_exit(SOON)?;
        wait::until("the service is over", SOON, || {
            bed.agent
                .status()
                .is_ok_and(|status| status.services.is_empty())
        })?;
        let now = bed.agent.settled_fds()?;
        ensure!(
            now == fds,
            "round {round}: {fds} descriptors before, {now} after"
        );
    }
    ensure!(!pins.exists(), "pins without a service");
    Ok(())
}

fn the_timeline_tells_the_life_of_a_generation() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let queued = bed.clients(6)?;
    let _second = bed.generation(2, &[])?;
    let flip = begin(&bed, &["flip", "--to", "gen2"])?;
    let told = |service: &ServiceStatus, what: &str| life(service, "gen1").contains(&what.into());
    bed.until("the drain is told", |service| {
        told(service, "draining: 6 queued, 0 half-open")
    })?;
    first.signal(Signal::USR1)?;
    ensure!(end(flip)?.code == 0, "the flip failed");
    ensure!(answers(queued)? == [1; 6], "other answers");

    let service = bed.agent.service()?;
    let expected = [
        "registered 2 listeners",
        "ready",
        "working since epoch 1",
        "draining: 6 queued, 0 half-open",
        "drained ",
    ];
    let life = life(&service, "gen1");
    ensure!(life.len() >= expected.len(), "{life:?}");
    for (what, expected) in life.iter().zip(expected) {
        ensure!(
            what.starts_with(expected),
            "{expected:?} expected in {life:?}"
        );
    }
    let times: Vec<u64> = service.timeline.iter().map(|entry| entry.at_ms).collect();
    ensure!(times.is_sorted(), "{:?}", service.timeline);
    let shown = bed.agent.cli(&["status", "--timeline"])?;
    ensure!(
        shown.stdout.contains("draining: 6 queued, 0 half-open"),
        "{shown:?}"
    );
    Ok(())
}

/// Whether the last table has so many listeners.
fn works_with(service: &ServiceStatus, listeners: usize) -> bool {
    let entries = service.timeline.iter().rev();
    let last = entries
        .map(|entry| &entry.what)
        .find(|what| what.starts_with("works with"));
    last.is_some_and(|what| *what == format!("works with {listeners} listeners now"))
}

/// What the timeline says of one generation.
fn life(service: &ServiceStatus, generation: &str) -> Vec<String> {
    let entries = service.timeline.iter();
    let own = entries.filter(|entry| entry.generation.as_str() == generation);
    own.map(|entry| entry.what.clone()).collect()
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        what_is_queued_on_a_process_that_dies_is_served_by_its_sibling
        a_second_process_gets_its_share_and_its_death_costs_only_what_it_served
        a_flip_waits_for_the_table_without_a_dead_process
        an_agent_without_servers_holds_nothing
        the_timeline_tells_the_life_of_a_generation
    }
}
