//! Promise: going back is as cheap as going forward, as long as the old generation is open: in the
//! middle of its drain, or when it is kept.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    fixture::{find, works},
    network::answers,
    product::{Cli, Drained},
    wait::SOON,
};
use synflip_wire::{DrainEnd, Phase};

use super::drains::is_draining;
use crate::helpers::refused::refused;

#[test]
fn a_rollback_in_the_middle_of_a_drain_takes_the_old_generation_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let queued = fixture.net.clients(20)?;
    let second = fixture.generation(2, &[])?;
    let flip = fixture.agent.begin_flip("gen2")?;
    fixture.wait_works("gen2")?;
    let by = fixture.net.answers(10)?;
    ensure!(by == [2; 10], "gen1 answers: {by:?}");
    is_draining(&fixture, "gen1", 20)?;

    let back = went_back(&fixture, &["rollback", "--json"])?;
    let to = (back.flip.to.as_str(), back.flip.epoch.0);
    ensure!(to == ("gen1", 3), "{back:?}");
    // Whoever waits for the first flip is told that its drain is not going to happen.
    let flip = flip.end(SOON)?;
    ensure!(flip.code == 4, "{flip:?}");
    let flip = told(&flip)?;
    let certificate = flip.certificate()?;
    ensure!(certificate.end == DrainEnd::Superseded, "{certificate:?}");
    ensure!(certificate.drained_after_ms.is_none(), "{certificate:?}");

    let later = fixture.net.clients(20)?;
    let exit = second.wait_exit(SOON)?;
    ensure!(exit.accepted == 10 && exit.served == 10, "{exit:?}");
    first.signal(Signal::USR1)?;
    for clients in [queued, later] {
        let by = answers(clients)?;
        ensure!(by == [1; 20], "{by:?}");
    }
    let load = fixture.net.load(16);
    load.more(500)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
    fixture.agent.check_counters()
}

#[test]
fn a_kept_generation_can_be_rolled_back_to_until_it_is_retired() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let load = fixture.net.load(16);
    load.more(200)?;
    let second = fixture.generation(2, &[])?;
    let flipped = fixture.agent.flip_with("gen2", &["--keep"])?;
    let certificate = flipped.certificate()?;
    ensure!(certificate.end == DrainEnd::Standby, "{certificate:?}");
    let status = fixture.agent.service()?;
    let first = find(&status, "gen1").map(|first| first.phase);
    ensure!(first == Some(Phase::Standby), "{status:#?}");
    let previous = status.previous.as_ref().map(|name| name.as_str());
    ensure!(previous == Some("gen1"), "{status:#?}");
    load.more(200)?;

    for works_now in ["gen1", "gen2", "gen1"] {
        went_back(&fixture, &["rollback", "--keep", "--json"])?;
        let status = fixture.agent.service()?;
        ensure!(works(&status, works_now), "{status:#?}");
        load.more(200)?;
    }
    let cli = fixture.agent.cli(&["retire", "--generation", "gen2"])?;
    ensure!(cli.code == 0, "{cli:?}");
    second.wait_exit(SOON)?;
    fixture.wait_gone("gen2")?;
    refused(
        &fixture.agent,
        &["rollback"],
        "no generation to roll back to",
    )?;
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1, &2]), "{report:?}");
    fixture.agent.check_counters()
}

#[test]
fn a_rollback_to_a_generation_that_has_closed_is_refused_with_its_cure() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    fixture.wait_gone("gen1")?;
    refused(&fixture.agent, &["rollback"], "flip with --keep")
}

fn went_back(fixture: &Fixture, args: &[&str]) -> Result<Drained> {
    let cli = fixture.agent.cli(args)?;
    ensure!(cli.code == 0, "{cli:?}");
    told(&cli)
}

fn told(cli: &Cli) -> Result<Drained> {
    Ok(serde_json::from_str(&cli.stdout)?)
}
