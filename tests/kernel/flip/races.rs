//! Promise: of what happens at the same instant, one thing happens: of two operators one flips,
//! and a rollback is whole.

use std::{sync::Barrier, thread};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, fixture::works, network::answers, note, wait::SOON};
use synflip_wire::{Client, Epoch, ErrorCode, Reply, Request, Target};

#[test]
fn of_two_requests_with_one_epoch_exactly_one_commits() -> Result<()> {
    let fixture = Fixture::new()?;
    let (_first, _second) = (fixture.first(&[])?, fixture.generation(2, &[])?);
    let load = fixture.net.load(8);
    load.more(50)?;
    for epoch in 1..=ROUNDS {
        let to = ["gen2", "gen1"][usize::try_from((epoch - 1) % 2)?];
        let start = Barrier::new(2);
        let ask = || {
            start.wait();
            request(&fixture, generation(to)?, Some(epoch), true)
        };
        let (won, lost) = match twice(&ask)? {
            [Reply::Committed(won), Reply::Refused(lost)]
            | [Reply::Refused(lost), Reply::Committed(won)] => (won, lost),
            both => bail!("epoch {epoch}: {both:?}"),
        };
        ensure!(won.epoch.0 == epoch + 1 && won.to.as_str() == to, "{won:?}");
        let expected = [ErrorCode::FlipInProgress, ErrorCode::EpochMoved];
        ensure!(expected.contains(&lost.code), "{lost:?}");
    }
    let status = fixture.agent.service()?;
    let flipped = status.epoch.0 == ROUNDS + 1 && works(&status, "gen1");
    ensure!(flipped, "{status:#?}");
    load.finish_unharmed()?;
    fixture.agent.check_counters()
}

#[test]
fn of_two_commands_exactly_one_flips() -> Result<()> {
    let fixture = Fixture::new()?;
    let (_first, _second) = (fixture.first(&[])?, fixture.generation(2, &[])?);
    let load = fixture.net.load(8);
    for epoch in 1..=ROUNDS {
        let to = ["gen2", "gen1"][usize::try_from((epoch - 1) % 2)?];
        let flip = ["flip", "--keep", "--no-wait", "--to", to];
        let mut both = twice(&|| fixture.agent.cli(&flip))?;
        both.sort_by_key(|cli| cli.code);
        let codes = both.each_ref().map(|cli| cli.code);
        ensure!(codes == [0, 1], "epoch {epoch}: {both:?}");
        // The slower one may also have looked only after the faster one's commit.
        let refusals = [
            "is being committed",
            "has committed since",
            "working generation already",
        ];
        let text = &both[1].stderr;
        let refused = refusals.iter().any(|refusal| text.contains(refusal));
        ensure!(refused, "{both:?}");
        let flipped = fixture.agent.service()?.epoch.0;
        ensure!(flipped == epoch + 1, "flipped twice");
    }
    load.finish_unharmed()?;
    fixture.agent.check_counters()
}

#[test]
fn a_rollback_at_the_moment_the_drain_ends_is_done_or_refused_and_never_half() -> Result<()> {
    let fixture = Fixture::new()?;
    let _base = fixture.first(&[])?;
    let to_base = || committed(request(&fixture, generation("gen1")?, None, false)?);
    let mut taken_back = 0;
    for number in 2..12 {
        let held = fixture.generation(number, &["--stop-accepting"])?;
        committed(request(&fixture, generation(&held.name)?, None, true)?)?;
        let queued = fixture.net.clients(3)?;
        // Without --keep: the end of the drain tells the server to close.
        to_base()?;
        held.signal(Signal::USR1)?;
        match request(&fixture, Target::Previous, None, true)? {
            Reply::Committed(back) => {
                ensure!(back.to.as_str() == held.name, "{back:?}");
                taken_back += 1;
                // It works and goes on working: nobody has told its server to close.
                for _ in 0..20 {
                    let by = fixture.net.answers(5)?;
                    ensure!(by == [number; 5], "{by:?}\n{}", fixture.agent.log());
                }
                to_base()?;
            }
            Reply::Refused(refusal) => {
                ensure!(refusal.code == ErrorCode::NoPrevious, "{refusal:?}");
            }
            other => bail!("{other:?}"),
        }
        let by = answers(queued)?;
        ensure!(by == [number; 3], "{by:?}");
        held.wait_exit(SOON).with_context(|| fixture.agent.log())?;
    }
    note(&format!("{taken_back} of 10 were taken back"));
    fixture.agent.check_counters()
}

/// A flip that nobody waits for.
fn request(fixture: &Fixture, to: Target, if_epoch: Option<u64>, keep: bool) -> Result<Reply> {
    let request = Request::Flip {
        service: None,
        to,
        if_epoch: if_epoch.map(Epoch),
        drain_ms: 0,
        keep,
        drop_endpoints: Vec::new(),
    };
    Ok(Client::connect(&fixture.agent.socket())?.ask(&request, SOON)?)
}

fn generation(name: &str) -> Result<Target> {
    Ok(Target::Generation(name.parse()?))
}

fn committed(reply: Reply) -> Result<()> {
    ensure!(matches!(reply, Reply::Committed(_)), "{reply:?}");
    Ok(())
}

/// The same on two threads.
fn twice<T: Send>(act: &(impl Fn() -> Result<T> + Sync)) -> Result<[T; 2]> {
    thread::scope(|scope| {
        let threads = [scope.spawn(act), scope.spawn(act)];
        let results = threads.map(|thread| thread.join().map_err(|_panic| anyhow!("panicked")));
        let results: Result<Vec<T>> = results.into_iter().map(|result| result?).collect();
        results?.try_into().ok().context("two results")
    })
}

const ROUNDS: u64 = 20;
