//! Promises 5, 6 and 8: a generation that is not ready gets nothing, going back is as cheap as
//! going forward, and the agent says what happened.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::product::Cli;
use synflip_wire::{Client, ErrorCode, Phase, Reply, Request, ServiceStatus, Target};

use bed::{Bed, SOON, find, works};

#[path = "bed.rs"]
mod bed;

#[path = "lifecycle/drains.rs"]
mod drains;
#[path = "lifecycle/processes.rs"]
mod processes;
#[path = "lifecycle/races.rs"]
mod races;
#[path = "lifecycle/returns.rs"]
mod returns;

fn a_generation_that_is_not_ready_gets_nothing() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let load = bed.load(16);
    load.more(100)?;
    let _second = bed.generation(2, &["--never-ready"])?;
    load.more(2000)?;
    let before = bed.agent.service()?;
    refused(
        &bed,
        &["flip", "--to", "gen2"],
        "has not said that it is ready",
    )?;
    refused(
        &bed,
        &["flip", "--to", "latest"],
        "is the working generation already",
    )?;
    ensure!(
        code_of(&bed, "gen2")? == ErrorCode::NotReady,
        "another code"
    );
    load.more(500)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");

    let after = bed.agent.service()?;
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
    bed.agent.check_counters()
}

fn nobody_notices_the_death_of_a_generation_that_was_ready() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let load = bed.load(16);
    for number in [2, 3] {
        let dying = bed.generation(number, &[])?;
        load.more(200)?;
        let before = bed.agent.service()?;
        dying.signal(Signal::KILL)?;
        let name = dying.name.clone();
        bed.until("the dead generation is gone", |service| {
            find(service, &name).is_none()
        })?;
        refused(&bed, &["flip", "--to", &name], "there is no generation")?;
        ensure!(
            code_of(&bed, &name)? == ErrorCode::NoSuchGeneration,
            "another code"
        );
        let after = bed.agent.service()?;
        ensure!(
            before.epoch == after.epoch && works(&after, "gen1"),
            "{after:#?}"
        );
        load.more(200)?;
    }
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
    bed.agent.check_counters()
}

fn a_flip_goes_to_the_generation_that_was_named_or_nowhere() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    refused(
        &bed,
        &["flip", "--to", "gen7"],
        "there is no generation \"gen7\"",
    )?;
    refused(
        &bed,
        &["flip", "--to", "gen1"],
        "is the working generation already",
    )?;
    refused(
        &bed,
        &["flip", "--to", "gen1", "--service", "mail"],
        "there is no service",
    )?;
    refused(&bed, &["rollback"], "no generation to roll back to")?;
    ensure!(bed.agent.service()?.epoch == 1, "a refused flip counts");

    let _second = bed.generation(2, &[])?;
    let third = bed.generation(3, &[])?;
    let flipped = bed.agent.flip("latest")?;
    ensure!(
        flipped.flip.to.as_str() == "gen3" && flipped.flip.epoch == 2,
        "{flipped:?}"
    );
    ensure!(
        bed.answers(20)?.iter().all(|number| *number == 3),
        "others answer"
    );
    bed.until("the first generation is gone", |service| {
        find(service, "gen1").is_none()
    })?;
    // It is the newest, and working.
    refused(
        &bed,
        &["flip", "--to", "latest"],
        "is the working generation already",
    )?;
    let flipped = bed.agent.flip("gen2")?;
    ensure!(flipped.flip.epoch == 3, "{flipped:?}");
    let exit = third.wait_exit(SOON)?;
    ensure!(exit.accepted == 20 && exit.served == 20, "{exit:?}");
    bed.agent.check_counters()
}

/// The exit code, the text, and that nothing has changed.
fn refused(bed: &Bed, args: &[&str], text: &str) -> Result<()> {
    let before = bed.agent.service()?;
    let cli = bed.agent.cli(args)?;
    ensure!(
        cli.code == 1 && cli.stderr.contains(text),
        "{args:?}: {cli:?}"
    );
    ensure!(cli.stdout.is_empty(), "{args:?}: {cli:?}");
    let after = bed.agent.service()?;
    ensure!(same(&before, &after), "{args:?}: {before:#?}\n{after:#?}");
    Ok(())
}

/// The code of the refusal of a flip to `name`.
fn code_of(bed: &Bed, name: &str) -> Result<ErrorCode> {
    match flip_request(bed, name, None)? {
        Reply::Refused(refusal) => Ok(refusal.code),
        other => anyhow::bail!("{other:?}"),
    }
}

/// A flip that nobody waits for, and that keeps the old generation.
fn flip_request(bed: &Bed, name: &str, if_epoch: Option<u64>) -> Result<Reply> {
    let request = Request::Flip {
        service: None,
        to: Target::Generation(name.parse()?),
        if_epoch,
        drain_ms: 0,
        keep: true,
    };
    Ok(Client::connect(&bed.agent.socket())?.ask(&request, SOON)?)
}

/// Whether two looks at a service show the same but for its counters.
fn same(a: &ServiceStatus, b: &ServiceStatus) -> bool {
    let phases = |service: &ServiceStatus| -> Vec<_> {
        let generations = service.generations.iter();
        generations
            .map(|g| (g.name.clone(), g.phase, g.pids.clone()))
            .collect()
    };
    let timeline = a.timeline.len() == b.timeline.len();
    (a.epoch, &a.working, &a.previous) == (b.epoch, &b.working, &b.previous)
        && phases(a) == phases(b)
        && timeline
}

/// Starts a command that is to wait for something.
fn begin(bed: &Bed, args: &[&str]) -> Result<Child> {
    let mut command = bed.agent.command(args)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start synflip")
}

/// Waits for its end.
fn end(child: Child) -> Result<Cli> {
    Ok(Cli::from(child.wait_with_output()?))
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_generation_that_is_not_ready_gets_nothing
        nobody_notices_the_death_of_a_generation_that_was_ready
        a_flip_goes_to_the_generation_that_was_named_or_nowhere
    }
}
