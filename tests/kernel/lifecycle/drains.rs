//! Flips while an earlier one is still draining, forwards and back.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::product::Drained;
use synflip_wire::{DrainEnd, Phase, ServiceStatus};

use super::{begin, end, refused};
use crate::bed::{Bed, SOON, answers, find, works};

fn a_rollback_in_the_middle_of_a_drain_takes_the_old_generation_back() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let queued = bed.clients(20)?;
    let second = bed.generation(2, &[])?;
    let flip = begin(&bed, &["flip", "--to", "gen2", "--json"])?;
    bed.until("gen2 works", |service| works(service, "gen2"))?;
    ensure!(
        bed.answers(10)?.iter().all(|number| *number == 2),
        "gen1 answers"
    );
    let status = bed.agent.service()?;
    ensure!(is_draining(&status, "gen1", 20), "{status:#?}");

    let back = bed.agent.cli(&["rollback", "--json"])?;
    ensure!(back.code == 0, "{back:?}");
    let back: Drained = serde_json::from_str(&back.stdout)?;
    ensure!(
        back.flip.to.as_str() == "gen1" && back.flip.epoch == 3,
        "{back:?}"
    );
    // Whoever waits for the first flip is told that its drain is not going to happen.
    let flip = end(flip)?;
    ensure!(flip.code == 4, "{flip:?}");
    let flip: Drained = serde_json::from_str(&flip.stdout)?;
    let certificate = flip.drain.context("a certificate")?;
    ensure!(certificate.end == DrainEnd::Superseded, "{certificate:?}");
    ensure!(certificate.drained_after_ms.is_none(), "{certificate:?}");

    let later = bed.clients(20)?;
    let exit = second.wait_exit(SOON)?;
    ensure!(exit.accepted == 10 && exit.served == 10, "{exit:?}");
    first.signal(Signal::USR1)?;
    for clients in [queued, later] {
        let numbers = answers(clients)?;
        ensure!(
            numbers.len() == 20 && numbers.iter().all(|n| *n == 1),
            "{numbers:?}"
        );
    }
    let load = bed.load(16);
    load.more(500)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
    bed.agent.check_counters()
}

fn two_generations_drain_at_one_time() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let at_first = bed.clients(10)?;
    let second = bed.generation(2, &["--stop-accepting"])?;
    let flip_to_second = begin(&bed, &["flip", "--to", "gen2", "--json"])?;
    bed.until("gen2 works", |service| works(service, "gen2"))?;
    let at_second = bed.clients(7)?;
    let third = bed.generation(3, &[])?;
    let flip_to_third = begin(&bed, &["flip", "--to", "gen3", "--json"])?;
    bed.until("gen3 works", |service| works(service, "gen3"))?;
    let load = bed.load(16);
    load.more(200)?;
    let status = bed.agent.service()?;
    ensure!(
        is_draining(&status, "gen1", 10) && is_draining(&status, "gen2", 7),
        "{status:#?}"
    );

    // The later drain may end first.
    second.signal(Signal::USR1)?;
    let certificate = drained(end(flip_to_third)?)?;
    ensure!(certificate.flip.to.as_str() == "gen3", "{certificate:?}");
    ensure!(second.wait_exit(SOON)?.served == 7, "not all were served");
    let status = bed.agent.service()?;
    ensure!(is_draining(&status, "gen1", 10), "{status:#?}");

    first.signal(Signal::USR1)?;
    let certificate = drained(end(flip_to_second)?)?;
    let at_commit: u64 = certificate
        .listeners
        .iter()
        .map(|l| l.steps[0].queued)
        .sum();
    ensure!(at_commit == 10, "{certificate:?}");
    ensure!(first.wait_exit(SOON)?.served == 10, "not all were served");
    ensure!(
        answers(at_first)? == [1; 10] && answers(at_second)? == [2; 7],
        "other answers"
    );
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&3]), "{report:?}");
    ensure!(
        find(&bed.agent.service()?, "gen1").is_none(),
        "gen1 is still there"
    );
    third.signal(Signal::TERM)?;
    third.wait_exit(SOON)?;
    Ok(())
}

fn a_kept_generation_can_be_rolled_back_to_until_it_is_retired() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&[])?;
    let load = bed.load(16);
    load.more(200)?;
    let second = bed.generation(2, &[])?;
    let flipped = bed.agent.flip_with("gen2", &["--keep"])?;
    let certificate = flipped.drain.context("a certificate")?;
    ensure!(certificate.end == DrainEnd::Standby, "{certificate:?}");
    let status = bed.agent.service()?;
    ensure!(
        find(&status, "gen1").is_some_and(|g| g.phase == Phase::Standby),
        "{status:#?}"
    );
    ensure!(
        status
            .previous
            .as_ref()
            .is_some_and(|name| name.as_str() == "gen1"),
        "{status:#?}"
    );
    load.more(200)?;

    for (command, works_now) in [
        ("rollback", "gen1"),
        ("rollback", "gen2"),
        ("rollback", "gen1"),
    ] {
        let cli = bed.agent.cli(&[command, "--keep", "--json"])?;
        ensure!(cli.code == 0, "{cli:?}");
        let status = bed.agent.service()?;
        ensure!(works(&status, works_now), "{status:#?}");
        load.more(200)?;
    }
    let cli = bed.agent.cli(&["retire", "--generation", "gen2"])?;
    ensure!(cli.code == 0, "{cli:?}");
    second.wait_exit(SOON)?;
    bed.until("gen2 is forgotten", |service| {
        find(service, "gen2").is_none()
    })?;
    refused(&bed, &["rollback"], "no generation to roll back to")?;
    load.more(200)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.keys().eq([&1, &2]), "{report:?}");
    bed.agent.check_counters()?;
    drop(first);
    Ok(())
}

fn a_rollback_to_a_generation_that_has_closed_is_refused_with_its_cure() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&[])?;
    let _second = bed.generation(2, &[])?;
    bed.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    refused(&bed, &["rollback"], "flip with --keep")
}

fn what_works_or_drains_is_not_retired() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    refused(
        &bed,
        &["retire", "--generation", "gen1"],
        "flip to another one first",
    )?;
    refused(
        &bed,
        &["retire", "--generation", "gen1", "--force"],
        "flip to another one first",
    )?;
    let queued = bed.clients(5)?;
    let _second = bed.generation(2, &[])?;
    let flip = begin(&bed, &["flip", "--to", "gen2", "--json"])?;
    bed.until("gen1 drains", |service| is_draining(service, "gen1", 5))?;
    refused(
        &bed,
        &["retire", "--generation", "gen1"],
        "use --force to lose them",
    )?;
    refused(
        &bed,
        &["retire", "--generation", "gen7"],
        "there is no generation",
    )?;
    first.signal(Signal::USR1)?;
    drained(end(flip)?)?;
    ensure!(answers(queued)? == [1; 5], "other answers");
    Ok(())
}

/// The certificate of a flip that has ended well.
fn drained(cli: synflip_bed::product::Cli) -> Result<synflip_wire::Certificate> {
    ensure!(cli.code == 0, "{cli:?}");
    let flip: Drained = serde_json::from_str(&cli.stdout)?;
    let certificate = flip.drain.context("a certificate")?;
    ensure!(certificate.end == DrainEnd::Drained, "{certificate:?}");
    Ok(certificate)
}

fn is_draining(service: &ServiceStatus, name: &str, queued: u64) -> bool {
    find(service, name).is_some_and(|generation| {
        let counts = generation.listeners.iter().map(|listener| listener.queued);
        generation.phase == Phase::Draining && counts.sum::<Option<u64>>() == Some(queued)
    })
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_rollback_in_the_middle_of_a_drain_takes_the_old_generation_back
        two_generations_drain_at_one_time
        a_kept_generation_can_be_rolled_back_to_until_it_is_retired
        a_rollback_to_a_generation_that_has_closed_is_refused_with_its_cure
        what_works_or_drains_is_not_retired
    }
}
