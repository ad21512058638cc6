//! An agent that comes back knows what the one before it knew.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_agent::Point;
use synflip_wire::Phase;

use crate::{
    bed::{Bed, SOON, answers, find, works},
    story::is_back,
};

fn a_generation_that_has_not_worked_yet_is_not_told_to_close() -> Result<()> {
    let mut bed = Bed::new()?;
    let first = bed.first(&[])?;
    let mut second = bed.generation(2, &[])?;
    let _third = bed.generation(3, &[])?;
    bed.agent.flip("gen3")?;
    first.wait_exit(SOON)?;
    restart(&mut bed)?;
    bed.until("both are back", |service| {
        is(service, "gen2", Phase::Ready) && is(service, "gen3", Phase::Working)
    })?;
    bed.agent.flip("gen2")?;
    ensure!(!second.has_ended(), "it was told to close");
    ensure!(bed.answers(10)? == [2; 10], "others answer");
    Ok(())
}

fn a_drain_after_a_rollback_goes_on() -> Result<()> {
    let mut bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let second = bed.generation(2, &["--stop-accepting"])?;
    bed.agent.flip_with("gen2", &["--keep"])?;
    let queued = bed.clients(5)?;
    let back = bed.agent.cli(&["rollback", "--no-wait"])?;
    ensure!(back.code == 0, "{back:?}");
    restart(&mut bed)?;
    bed.until("both are back", |service| {
        is(service, "gen1", Phase::Working) && is(service, "gen2", Phase::Draining)
    })?;
    second.signal(Signal::USR1)?;
    ensure!(answers(queued)? == [2; 5], "other answers");
    second
        .wait_exit(SOON)
        .with_context(|| bed.agent.log())
        .map(drop)
}

fn what_is_kept_is_kept() -> Result<()> {
    let points = [
        Point::DepartureNoted,
        Point::BeforePublish,
        Point::AfterPublish,
        Point::CommitRecorded,
        Point::DrainBegun,
        Point::Drained,
    ];
    for point in points {
        dies_keeping(point).with_context(|| format!("{point}"))?;
    }
    Ok(())
}

/// The agent dies in a flip with `--keep`.
fn dies_keeping(point: Point) -> Result<()> {
    // The first flip is that to the first generation.
    let nth = match point {
        Point::DrainBegun | Point::Drained => 1,
        _ => 2,
    };
    let mut bed = Bed::with(&[&format!("--die-at={point}:{nth}")])?;
    let first = bed.first(&[])?;
    let second = bed.generation(2, &[])?;
    bed.agent.cli(&["flip", "--to", "gen2", "--keep"])?;
    bed.agent.wait_death(SOON)?;
    bed.agent.restart_with(&bed.netns, &[])?;
    let status = bed.until("both are back", |service| {
        is_back(service, "gen1") && is_back(service, "gen2")
    })?;
    if works(&status, "gen2") {
        bed.until("the first is kept", |s| is(s, "gen1", Phase::Standby))?;
        let back = bed.agent.cli(&["rollback"])?;
        ensure!(back.code == 0, "{back:?}");
        second.wait_exit(SOON)?;
        ensure!(bed.answers(10)? == [1; 10], "others answer");
    } else {
        // Nothing is left of the wish to keep it.
        bed.agent.flip("gen2")?;
        first.wait_exit(SOON)?;
    }
    Ok(())
}

fn a_rollback_goes_where_it_would_have_gone() -> Result<()> {
    let mut bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let (_second, _third) = (bed.generation(2, &[])?, bed.generation(3, &[])?);
    for to in ["gen3", "gen2", "gen1"] {
        bed.agent.flip_with(to, &["--keep"])?;
    }
    restart(&mut bed)?;
    let status = bed.until("all are back", |service| {
        is(service, "gen2", Phase::Standby) && is(service, "gen3", Phase::Standby)
    })?;
    let previous = status.previous.as_ref().map(|name| name.as_str());
    ensure!(previous == Some("gen2"), "{status:#?}");
    let back = bed.agent.cli(&["rollback", "--keep"])?;
    ensure!(back.code == 0, "{back:?}");
    ensure!(bed.answers(10)? == [2; 10], "others answer");
    Ok(())
}

fn restart(bed: &mut Bed) -> Result<()> {
    bed.agent.restart(&bed.netns)
}

fn is(service: &synflip_wire::ServiceStatus, name: &str, phase: Phase) -> bool {
    find(service, name).is_some_and(|g| g.phase == phase && !g.pids.is_empty())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_generation_that_has_not_worked_yet_is_not_told_to_close
        a_drain_after_a_rollback_goes_on
        what_is_kept_is_kept
        a_rollback_goes_where_it_would_have_gone
    }
}
