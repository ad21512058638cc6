//! Promise: a generation that is not ready gets nothing, and nobody notices the death of one that
//! was not working yet.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    capability::scaled,
    fixture::{find, works},
    wait::SOON,
};
use synflip_wire::{Client, ErrorCode, Phase, Reply, Request, Target};

use crate::helpers::refused::{self, same};

#[test]
fn a_generation_that_is_not_ready_gets_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let refused = |args: &[&str], text| refused::refused(&fixture.agent, args, text);
    let _first = fixture.first(&[])?;
    let load = fixture.net.load(16);
    load.more(100)?;
    let _second = fixture.generation(2, &["--never-ready"])?;
    load.more(scaled(2000).into())?;
    let before = fixture.agent.service()?;
    refused(&["flip", "--to", "gen2"], "has not said that it is ready")?;
    refused(
        &["flip", "--to", "latest"],
        "is the working generation already",
    )?;
    ensure!(
        code_of(&fixture, "gen2")? == ErrorCode::NotReady,
        "another code"
    );
    load.more(500)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");

    let after = fixture.agent.service()?;
    ensure!(same(&before, &after), "{before:#?}\n{after:#?}");
    let second = find(&after, "gen2").context("gen2 is registered")?;
    ensure!(
        second.phase == Phase::Registered && second.listeners.len() == 2,
        "{second:?}"
    );
    let given: Vec<u64> = second
        .listeners
        .iter()
        .map(|listener| listener.selected)
        .collect();
    ensure!(given == [0, 0], "{given:?} connections");
    fixture.agent.check_counters()
}

#[test]
fn nobody_notices_the_death_of_a_generation_that_was_ready() -> Result<()> {
    let fixture = Fixture::new()?;
    let refused = |args: &[&str], text| refused::refused(&fixture.agent, args, text);
    let _first = fixture.first(&[])?;
    let load = fixture.net.load(16);
    for number in [2, 3] {
        let dying = fixture.generation(number, &[])?;
        load.more(200)?;
        let before = fixture.agent.service()?;
        dying.signal(Signal::KILL)?;
        let name = dying.name.clone();
        fixture.wait_gone(&name)?;
        refused(&["flip", "--to", &name], "there is no generation")?;
        ensure!(
            code_of(&fixture, &name)? == ErrorCode::NoSuchGeneration,
            "another code"
        );
        let after = fixture.agent.service()?;
        ensure!(
            before.epoch == after.epoch && works(&after, "gen1"),
            "{after:#?}"
        );
        load.more(200)?;
    }
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
    fixture.agent.check_counters()
}

/// The code of the refusal of a flip to `name`.
fn code_of(fixture: &Fixture, name: &str) -> Result<ErrorCode> {
    let request = Request::Flip {
        service: None,
        to: Target::Generation(name.parse()?),
        if_epoch: None,
        drain_ms: 0,
        keep: true,
        drop_endpoints: Vec::new(),
    };
    match Client::connect(&fixture.agent.socket())?.ask(&request, SOON)? {
        Reply::Refused(refusal) => Ok(refusal.code),
        other => bail!("{other:?}"),
    }
}
