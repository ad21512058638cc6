//! Promise: the agent can be left alone: clients do not notice that it dies, and the next one goes
//! on where it was.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    fixture::{find, works},
    network::answers,
    wait::SOON,
};
use synflip_wire::Phase;

#[test]
fn clients_do_not_notice_that_the_agent_dies() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let load = fixture.net.load(8);
    load.more(200)?;
    fixture.agent.kill(Signal::KILL)?;
    load.more(200)?;
    fixture.restart_agent()?;
    let second = fixture.generation(2, &[])?;
    load.more(200)?;
    fixture.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.len() == 2, "{report:?}");
    drop(second);
    fixture.agent.check_counters()
}

#[test]
fn a_drain_goes_on_after_the_agent_was_killed() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let waiting = fixture.net.clients(20)?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.flip_with("gen2", &["--no-wait"])?;
    fixture.restart_agent()?;
    let status = fixture.wait_back(&["gen1", "gen2"])?;
    ensure!(works(&status, "gen2") && status.epoch.0 == 2, "{status:#?}");
    let draining = find(&status, "gen1").map(|generation| generation.phase);
    ensure!(draining == Some(Phase::Draining), "{draining:?}");
    first.signal(Signal::USR1)?;
    ensure!(
        answers(waiting)? == [1; 20],
        "not all by the generation that had them"
    );
    let exit = first.wait_exit(SOON)?;
    ensure!(exit.served == 20, "{exit:?}");
    fixture.agent.check_counters()
}

#[test]
fn a_flip_away_from_those_who_are_not_back_waits_for_them() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let _second = fixture.generation(2, &[])?;
    let waiting = fixture.net.clients(10)?;
    // It cannot come back while it is stopped, and its queue cannot be seen.
    first.signal(Signal::STOP)?;
    fixture.restart_agent()?;
    fixture.wait_phase("gen2", Phase::Ready)?;
    let flip = fixture
        .agent
        .cli(&["flip", "--to", "gen2", "--timeout", "1", "--json"])?;
    ensure!(
        flip.code == 4,
        "called drained what nobody has looked at: {flip:?}"
    );
    first.signal(Signal::CONT)?;
    first.signal(Signal::USR1)?;
    ensure!(answers(waiting)? == [1; 10]);
    first.wait_exit(SOON)?;
    Ok(())
}
