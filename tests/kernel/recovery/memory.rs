//! Promise: an agent that comes back knows what the one before it knew.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture, Setup,
    fixture::{find, works},
    network::answers,
    wait::SOON,
};
use synflip_wire::{Phase, ServiceStatus};

use crate::helpers::at_once::at_once;

#[test]
fn a_generation_that_has_not_worked_yet_is_not_told_to_close() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let mut second = fixture.generation(2, &[])?;
    let _third = fixture.generation(3, &[])?;
    fixture.agent.flip("gen3")?;
    first.wait_exit(SOON)?;
    fixture.restart_agent()?;
    fixture.until("both are back", |service| {
        is(service, "gen2", Phase::Ready) && is(service, "gen3", Phase::Working)
    })?;
    fixture.agent.flip("gen2")?;
    ensure!(!second.has_ended(), "it was told to close");
    ensure!(fixture.net.answers(10)? == [2; 10], "others answer");
    Ok(())
}

#[test]
fn a_drain_after_a_rollback_goes_on() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let second = fixture.generation(2, &["--stop-accepting"])?;
    fixture.agent.flip_with("gen2", &["--keep"])?;
    let queued = fixture.net.clients(5)?;
    let back = fixture.agent.cli(&["rollback", "--no-wait"])?;
    ensure!(back.code == 0, "{back:?}");
    fixture.restart_agent()?;
    fixture.until("both are back", |service| {
        is(service, "gen1", Phase::Working) && is(service, "gen2", Phase::Draining)
    })?;
    second.signal(Signal::USR1)?;
    ensure!(answers(queued)? == [2; 5], "other answers");
    second
        .wait_exit(SOON)
        .with_context(|| fixture.agent.log())
        .map(drop)
}

#[test]
fn what_is_kept_is_kept() -> Result<()> {
    // The first of each in the flip: the listeners' notes come before the table, the readings
    // after it.
    let points = [
        "before-note",
        "after-note",
        "before-publish",
        "table-verified",
        "after-publish",
        "before-read",
        "after-read",
    ];
    let fixture = Setup::new().agent_traced().start()?;
    let _generations = (fixture.first(&[])?, fixture.generation(2, &[])?);
    let before = fixture.agent.reached();
    let nth = |point: &str| before.iter().filter(|reached| *reached == point).count() + 1;
    at_once(points, |point| {
        dies_keeping(&format!("{point}:{}", nth(point)))
    })
    .map(drop)
}

/// The agent dies in a flip with `--keep`.
fn dies_keeping(die_at: &str) -> Result<()> {
    let mut fixture = Setup::new()
        .agent_args(&[&format!("--die-at={die_at}")])
        .start()?;
    let first = fixture.first(&[])?;
    let second = fixture.generation(2, &[])?;
    fixture.agent.cli(&["flip", "--to", "gen2", "--keep"])?;
    fixture.agent.wait_death(SOON)?;
    fixture.agent.restart_with(&fixture.net.server, &[])?;
    let status = fixture.wait_back(&["gen1", "gen2"])?;
    if works(&status, "gen2") {
        fixture.until("the first is kept", |s| is(s, "gen1", Phase::Standby))?;
        let back = fixture.agent.cli(&["rollback"])?;
        ensure!(back.code == 0, "{back:?}");
        second.wait_exit(SOON)?;
        ensure!(fixture.net.answers(10)? == [1; 10], "others answer");
    } else {
        // Nothing is left of the wish to keep it.
        fixture.agent.flip("gen2")?;
        first.wait_exit(SOON)?;
    }
    Ok(())
}

#[test]
fn a_rollback_goes_where_it_would_have_gone() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let (_second, _third) = (fixture.generation(2, &[])?, fixture.generation(3, &[])?);
    for to in ["gen3", "gen2", "gen1"] {
        fixture.agent.flip_with(to, &["--keep"])?;
    }
    fixture.restart_agent()?;
    let status = fixture.until("all are back", |service| {
        is(service, "gen2", Phase::Standby) && is(service, "gen3", Phase::Standby)
    })?;
    let previous = status.previous.as_ref().map(|name| name.as_str());
    ensure!(previous == Some("gen2"), "{status:#?}");
    let back = fixture.agent.cli(&["rollback", "--keep"])?;
    ensure!(back.code == 0, "{back:?}");
    ensure!(fixture.net.answers(10)? == [2; 10], "others answer");
    Ok(())
}

fn is(service: &ServiceStatus, name: &str, phase: Phase) -> bool {
    find(service, name).is_some_and(|g| g.phase == phase && !g.pids.is_empty())
}
