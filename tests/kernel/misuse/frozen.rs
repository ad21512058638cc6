//! Promise: a process that hangs costs nobody more than 3 s. Its siblings accept what comes to it,
//! new connections go to them, and it gets its share again when it accepts again.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Family, Setup, capability::is_slow};
use synflip_wire::ServiceStatus;

#[test]
fn what_a_frozen_process_does_not_accept_its_sibling_does() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let frozen = fixture.start_working(&fixture.spec(1, 1))?;
        let _sibling = fixture.start(&fixture.spec(2, 1).joins("gen1"))?;
        let load = fixture.net.load(CLIENTS);
        load.more(100)?;
        frozen.signal(Signal::STOP)?;
        fixture.until("it is noticed", |service| stuck(service) == 1)?;
        let given = selected(&fixture.agent.service()?);
        load.more(100)?;
        // What is asked of it by the agent itself is not accepted, and it gets nothing else.
        let meanwhile = selected(&fixture.agent.service()?);
        ensure!(
            meanwhile[0] <= given[0] + 1 && meanwhile[1] >= given[1] + 50,
            "{given:?}, then {meanwhile:?}"
        );
        frozen.signal(Signal::CONT)?;
        fixture.until("it is back", |service| stuck(service) == 0)?;
        let before = selected(&fixture.agent.service()?);
        load.more(100)?;
        let after = selected(&fixture.agent.service()?);
        ensure!(after[0] >= before[0] + 10, "{before:?}, then {after:?}");
        let report = load.finish_unharmed()?;
        let longest = if is_slow() { 10 } else { 3 };
        ensure!(
            report.latency_us.max < longest * 1_000_000,
            "somebody waited too long: {:?}",
            report.latency_us
        );
        Ok(())
    })
}

#[test]
fn a_server_that_pauses_as_a_whole_keeps_what_comes() -> Result<()> {
    let fixture = Setup::new().start()?;
    let server = fixture.start_working(&fixture.spec(1, 2))?;
    server.signal(Signal::STOP)?;
    let waiting = fixture.net.clients(10)?;
    // As long as it would take to be noticed.
    synflip_bed::wait::pause(3 * synflip_bed::wait::SECOND);
    let service = fixture.agent.service()?;
    ensure!(stuck(&service) == 0, "{service:?}");
    server.signal(Signal::CONT)?;
    let answers = synflip_bed::network::answers(waiting)?;
    ensure!(answers == [1; 10], "{answers:?}");
    Ok(())
}

#[test]
fn somebody_who_is_not_registered_is_seen_and_gets_nothing_while_a_generation_accepts() -> Result<()>
{
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let server = fixture.start_working(&fixture.spec(1, 2))?;
        let stranger = fixture.net.plain(&fixture.spec(9, 2))?;
        fixture.until("it is seen", strangers)?;
        let answers = fixture.net.answers(20)?;
        ensure!(answers == [1; 20], "{answers:?}");
        // Whoever registers is none, however many there are.
        let second = fixture.generation(2, &[])?;
        stranger.stop()?;
        fixture.until("it has gone", |service| !strangers(service))?;

        let _stranger = fixture.net.plain(&fixture.spec(9, 2))?;
        fixture.until("it is seen again", strangers)?;
        second.kill()?;
        server.kill()?;
        // Nothing is held back from it.
        fixture.wait_over()?;
        let answers = fixture.net.answers(20)?;
        ensure!(answers == [9; 20], "{answers:?}");
        Ok(())
    })
}

fn strangers(service: &ServiceStatus) -> bool {
    service.endpoints.iter().any(|endpoint| endpoint.strangers)
}

fn stuck(service: &ServiceStatus) -> usize {
    let listeners = service.generations.iter().flat_map(|g| &g.listeners);
    listeners.filter(|listener| listener.stuck).count()
}

/// How many connections each listener was given.
fn selected(service: &ServiceStatus) -> Vec<u64> {
    let listeners = service.generations.iter().flat_map(|g| &g.listeners);
    listeners.map(|listener| listener.selected).collect()
}

const CLIENTS: usize = 8;
