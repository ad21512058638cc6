//! Promise: what is pending on a listener that closes first goes to another, or waits for one.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Family, Fixture, Line, Setup, capability, network::FAST_OPEN, product::Drained};
use synflip_wire::{DrainEnd, Event, Phase};

use crate::helpers::{REGIMES, at_once::at_once, bare::Bare, points::Points};

/// A descriptor keeps a listener open, but not from being shut down: only the kernel can save
/// what is pending on it then.
#[test]
fn what_is_pending_moves_when_the_old_server_shuts_down() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    Family::both(|family| {
        let fixture = hosts(family).start()?;
        let mut old = Bare::start(&fixture, 1, 1)?;
        old.is_told(Event::Working)?;
        let mut points = Points::reach(&fixture, "gen1")?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        old.shut_down()?;
        ended(&flip.drained()?)?;
        old.is_told(Event::Drained)?;
        points.go_on(&fixture, Some("gen2"))?;
        wake(&fixture)?;
        points.are_answered_by(2)?;
        old.close()?;
        fixture.wait_gone("gen1")?;
        moved(&fixture)
    })
}

/// The groups hold the program, and the program the table: a server can die without anyone.
#[test]
fn what_is_pending_moves_without_an_agent() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    Family::both(|family| {
        let mut fixture = hosts(family).start()?;
        let old = fixture.start_working(&fixture.spec(1, 1).arg("--stop-accepting"))?;
        let mut points = Points::reach(&fixture, "gen1")?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        fixture.agent.flip_with("gen2", &["--no-wait"])?;
        fixture.agent.kill(Signal::KILL)?;
        drop(old);
        points.go_on(&fixture, None)?;
        wake(&fixture)?;
        points.are_answered_by(2)?;
        fixture.restart_agent()?;
        fixture.wait_gone("gen1")?;
        moved(&fixture)
    })
}

/// The agent's duplicate keeps the listener of a dead server open: what is queued on it, and what
/// comes to be queued, is accepted by the next, which is lent it.
#[test]
fn what_is_pending_on_a_killed_server_is_handed_over() -> Result<()> {
    at_once(REGIMES, |regime| {
        Family::both(|family| {
            let fixture = hosts(family).agent_args(regime).start()?;
            let old = fixture.start_working(&fixture.spec(1, 1).arg("--stop-accepting"))?;
            let mut points = Points::reach(&fixture, "gen1")?;
            let new = fixture.start(&fixture.spec(2, 1))?;
            let mut flip = fixture.agent.begin_flip("gen2")?;
            fixture.wait_phase("gen1", Phase::Draining)?;
            flip.still_runs()?;
            old.signal(Signal::KILL)?;
            points.go_on(&fixture, None)?;
            points.are_answered_by(2)?;
            ended(&flip.drained()?)?;
            fixture.wait_gone("gen1")?;
            fixture.agent.check_counters()?;
            let exit = new.stop()?;
            ensure!(exit.served == Points::COUNT as u64, "{exit:?}");
            Ok(())
        })
    })
    .map(drop)
}

/// Servers that link nothing cannot be handed anything. What the kernel cannot move, or not on
/// this kernel, is relayed: as long as a handshake is not over, its listener stays open.
#[test]
fn what_is_pending_on_a_killed_server_that_was_adopted_moves_or_is_relayed() -> Result<()> {
    at_once(REGIMES, |regime| {
        Family::both(|family| {
            let fixture = hosts(family).agent_args(regime).start()?;
            let old = fixture.adopted(&fixture.spec(1, 1).arg("--stop-accepting"))?;
            fixture.wait_works("gen1")?;
            let mut points = Points::reach(&fixture, "gen1")?;
            let _new = fixture.adopted(&fixture.spec(2, 1))?;
            fixture.agent.flip_with("gen2", &["--no-wait"])?;
            old.signal(Signal::KILL)?;
            points.go_on(&fixture, None)?;
            points.are_answered_by(2)?;
            fixture.wait_gone("gen1")?;
            fixture.agent.check_counters()
        })
    })
    .map(drop)
}

/// Nobody is there to be handed anything: the working generation's process has not come back to
/// an agent that was started anew. With migration the kernel moves what is queued to its
/// listeners; without, the agent holds it until the process comes.
#[test]
fn what_nobody_can_be_handed_moves_or_is_held() -> Result<()> {
    let can_move = capability::has("migration_wakes")?;
    at_once(
        REGIMES.into_iter().zip([can_move, false]),
        |(regime, moves)| {
            Family::both(|family| {
                let mut fixture = hosts(family).agent_args(regime).start()?;
                let old = fixture.start_working(&fixture.spec(1, 1).arg("--stop-accepting"))?;
                let mut points = Points::reach(&fixture, "gen1")?;
                let mut new = Bare::start(&fixture, 2, 1)?;
                fixture.agent.flip_with("gen2", &["--no-wait"])?;
                new.is_told(Event::Working)?;
                fixture.restart_agent()?;
                fixture.wait_pending("gen1", 2, 2)?;
                old.signal(Signal::KILL)?;
                fixture.wait_dead("gen1")?;
                points.go_on(&fixture, None)?;
                if moves {
                    new.serve(Points::COUNT)?;
                } else {
                    fixture.wait_pending("gen1", Points::COUNT as u64, 0)?;
                    new.come_back(&fixture)?;
                    new.serve_handed(Points::COUNT)?;
                }
                points.are_answered_by(2)?;
                fixture.wait_gone("gen1")?;
                fixture.agent.check_counters()
            })
        },
    )
    .map(drop)
}

/// A host whose clients can be at each point.
fn hosts(family: Family) -> Setup {
    let (key, value) = FAST_OPEN;
    Setup::new()
        .family(family)
        .line(Line::Raw)
        .sysctl(key, value)
}

/// Checks that a drain is over.
fn ended(flip: &Drained) -> Result<()> {
    let end = flip.drain.as_ref().map(|certificate| certificate.end);
    ensure!(end == Some(DrainEnd::Drained), "{flip:?}");
    Ok(())
}

/// Makes a listener look at its queue on kernels where what moves does not wake it: with the next
/// connection.
fn wake(fixture: &Fixture) -> Result<()> {
    if !capability::has("migration_wakes")? {
        fixture.net.handshake()?;
    }
    Ok(())
}

/// Checks that the program has moved each, and missed none.
fn moved(fixture: &Fixture) -> Result<()> {
    fixture.agent.check_counters()?;
    let endpoints = fixture.agent.service()?.endpoints;
    let migrated: u64 = endpoints.iter().map(|endpoint| endpoint.migrated).sum();
    ensure!(migrated == Points::COUNT as u64, "{endpoints:?}");
    Ok(())
}
