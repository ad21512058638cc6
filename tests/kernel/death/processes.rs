//! Promise: a process of a generation that dies costs what it was serving, and nothing else.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    capability::scaled,
    fixture::find,
    network::answers,
    product::Operator,
    wait::{self, SOON},
};
use synflip_wire::ServiceStatus;

use crate::helpers::works_with;

/// Clients of a load: at most so many connections are in service at one time.
const CLIENTS: usize = 8;

#[test]
fn a_second_process_gets_its_share_and_its_death_costs_only_what_it_served() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    // Another number under the same name: its answers can be told apart.
    let spec = fixture.spec(7, 2).joins("gen1");
    let sibling = fixture.start(&spec)?;
    let status = fixture.until("both processes work", |service| works_with(service, 4))?;
    let pids = find(&status, "gen1").map(|generation| generation.pids.clone());
    ensure!(pids == Some(vec![first.pid(), sibling.pid()]), "{pids:?}");

    let numbers = fixture.net.answers(400)?;
    let share = numbers.iter().filter(|number| **number == 7).count();
    ensure!((100..300).contains(&share), "{share} of 400");

    let load = fixture.net.load(CLIENTS);
    load.more(300)?;
    sibling.signal(Signal::KILL)?;
    let status = fixture.until("the table is published without it", |s| works_with(s, 2))?;
    let pids = find(&status, "gen1").map(|generation| generation.pids.clone());
    ensure!(pids == Some(vec![first.pid()]), "{pids:?}");
    let numbers = fixture.net.answers(200)?;
    ensure!(numbers == [1; 200], "a dead process is asked: {numbers:?}");
    load.more(300)?;
    let report = load.finish()?;
    ensure!(usize::try_from(report.lost)? <= CLIENTS, "{report:?}");
    // What was queued on it has not waited in vain.
    ensure!(report.refused == 0 && report.timeout == 0, "{report:?}");
    fixture.agent.check_counters()
}

#[test]
fn what_is_queued_on_a_process_that_dies_is_served_by_its_sibling() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let dying = fixture.spec(7, 2).joins("gen1").arg("--stop-accepting");
    let dying = fixture.start(&dying)?;
    fixture.until("both processes work", |service| works_with(service, 4))?;
    let clients = fixture.net.clients(60)?;
    let waiting = |service: &ServiceStatus| {
        let listeners = find(service, "gen1").map(|generation| generation.listeners.iter());
        let own = listeners.into_iter().flatten().skip(2);
        own.filter(|listener| listener.queued > Some(0)).count() == 2
    };
    fixture.until("both of its listeners have something queued", waiting)?;
    dying.signal(Signal::KILL)?;
    fixture.until("the table is published without it", |s| works_with(s, 2))?;
    ensure!(answers(clients)? == [1; 60], "other answers");
    drop(first);
    fixture.agent.check_counters()
}

#[test]
fn a_flip_waits_for_the_table_without_a_dead_process() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut old = fixture.first(&[])?;
    let mut operator = Operator::new(&fixture.agent)?;
    for number in 2..2 + scaled(10) {
        let sibling = fixture.spec(1000, 1).joins(&old.name);
        let sibling = fixture.start(&sibling)?;
        let new = fixture.generation(number, &[])?;
        fixture.until("both processes work", |service| works_with(service, 3))?;
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
    fixture.agent.check_counters()
}
