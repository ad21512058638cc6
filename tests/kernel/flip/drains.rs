//! Promise: a generation that drains is left alone: by the flips that follow, and by whoever wants
//! it gone.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, fixture::find, network::answers, wait::SOON};
use synflip_wire::Phase;

use crate::helpers::{certificate::at_commit, refused::refused};

#[test]
fn two_generations_drain_at_one_time() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let at_first = fixture.net.clients(10)?;
    let second = fixture.generation(2, &["--stop-accepting"])?;
    let flip_to_second = fixture.agent.begin_flip("gen2")?;
    fixture.wait_works("gen2")?;
    let at_second = fixture.net.clients(7)?;
    let third = fixture.generation(3, &[])?;
    let flip_to_third = fixture.agent.begin_flip("gen3")?;
    fixture.wait_works("gen3")?;
    let load = fixture.net.load(16);
    load.more(200)?;
    is_draining(&fixture, "gen1", 10)?;
    is_draining(&fixture, "gen2", 7)?;

    // The later drain may end first.
    second.signal(Signal::USR1)?;
    let drained = flip_to_third.drained()?;
    at_commit(drained.certificate()?)?;
    ensure!(drained.flip.to.as_str() == "gen3", "{drained:?}");
    let exit = second.wait_exit(SOON)?;
    ensure!(exit.served == 7, "not all were served: {exit:?}");
    is_draining(&fixture, "gen1", 10)?;

    first.signal(Signal::USR1)?;
    let drained = flip_to_second.drained()?;
    let (queued, _) = at_commit(drained.certificate()?)?;
    ensure!(queued == 10, "{drained:?}");
    let exit = first.wait_exit(SOON)?;
    ensure!(exit.served == 10, "not all were served: {exit:?}");
    let by = (answers(at_first)?, answers(at_second)?);
    ensure!(by == (vec![1; 10], vec![2; 7]), "{by:?}");
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&3]), "{report:?}");
    let status = fixture.agent.service()?;
    ensure!(find(&status, "gen1").is_none(), "gen1 is still there");
    third.stop()?;
    Ok(())
}

#[test]
fn what_works_or_drains_is_not_retired() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let retire = |name, more: &[&str], why| {
        let args = [&["retire", "--generation", name], more].concat();
        refused(&fixture.agent, &args, why)
    };
    retire("gen1", &[], "flip to another one first")?;
    retire("gen1", &["--force"], "flip to another one first")?;
    let queued = fixture.net.clients(5)?;
    let _second = fixture.generation(2, &[])?;
    let flip = fixture.agent.begin_flip("gen2")?;
    fixture.wait_phase("gen1", Phase::Draining)?;
    fixture.wait_pending("gen1", 5, 0)?;
    retire("gen1", &[], "use --force to lose them")?;
    retire("gen7", &[], "there is no generation")?;
    first.signal(Signal::USR1)?;
    at_commit(flip.drained()?.certificate()?)?;
    let by = answers(queued)?;
    ensure!(by == [1; 5], "{by:?}");
    Ok(())
}

/// Checks that a generation drains now, with so much in its queues.
pub(super) fn is_draining(fixture: &Fixture, name: &str, queued: u64) -> Result<()> {
    let status = fixture.agent.service()?;
    let phase = find(&status, name).map(|generation| generation.phase);
    ensure!(phase == Some(Phase::Draining), "{status:#?}");
    let pending = fixture.pending(name)?;
    ensure!(pending == (queued, 0), "{name}: {pending:?}");
    Ok(())
}
