//! Promise: the agent says what happened, and when.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, network::answers};
use synflip_wire::ServiceStatus;

#[test]
fn the_timeline_tells_the_life_of_a_generation() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let queued = fixture.net.clients(6)?;
    let _second = fixture.generation(2, &[])?;
    let flip = fixture.agent.begin_flip("gen2")?;
    let told = |service: &ServiceStatus, what: &str| life(service, "gen1").contains(&what.into());
    fixture.until("the drain is told", |service| {
        told(service, "draining: 6 queued, 0 half-open")
    })?;
    first.signal(Signal::USR1)?;
    flip.drained()?;
    ensure!(answers(queued)? == [1; 6], "other answers");

    let service = fixture.agent.service()?;
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
    let shown = fixture.agent.cli(&["status", "--timeline"])?;
    ensure!(
        shown.stdout.contains("draining: 6 queued, 0 half-open"),
        "{shown:?}"
    );
    Ok(())
}

#[test]
fn the_next_agent_remembers_it() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let before = fixture.agent.service()?.timeline;
    fixture.agent.kill(Signal::KILL)?;
    fixture.restart_agent()?;
    let after = fixture.agent.service()?.timeline;
    ensure!(
        !before.is_empty() && after.starts_with(&before),
        "{before:#?}, then {after:#?}"
    );
    Ok(())
}

/// What the timeline says of one generation.
fn life(service: &ServiceStatus, generation: &str) -> Vec<String> {
    let entries = service.timeline.iter();
    let own = entries.filter(|entry| entry.generation.as_str() == generation);
    own.map(|entry| entry.what.clone()).collect()
}
