//! What happens at the same instant: of two operators one flips, and a rollback is whole.

use std::{
    io::{self, Write as _},
    sync::Barrier,
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::Signal;
use synflip_wire::{Client, ErrorCode, Reply, Request, Target};

use super::flip_request;
use crate::bed::{Bed, SOON, answers, works};

const ROUNDS: u64 = 20;

fn of_two_requests_with_one_epoch_exactly_one_commits() -> Result<()> {
    let bed = Bed::new()?;
    let (_first, _second) = (bed.first(&[])?, bed.generation(2, &[])?);
    let load = bed.load(8);
    load.more(50)?;
    for epoch in 1..=ROUNDS {
        let to = ["gen2", "gen1"][usize::try_from((epoch - 1) % 2)?];
        let start = Barrier::new(2);
        let ask = || {
            start.wait();
            flip_request(&bed, to, Some(epoch))
        };
        let [one, other] = both(&ask)?;
        let (won, lost) = match (one, other) {
            (Reply::Committed(won), Reply::Refused(lost))
            | (Reply::Refused(lost), Reply::Committed(won)) => (won, lost),
            both => return Err(anyhow!("epoch {epoch}: {both:?}")),
        };
        ensure!(won.epoch == epoch + 1 && won.to.as_str() == to, "{won:?}");
        let expected = [ErrorCode::FlipInProgress, ErrorCode::EpochMoved];
        ensure!(expected.contains(&lost.code), "{lost:?}");
    }
    let status = bed.agent.service()?;
    ensure!(
        status.epoch == ROUNDS + 1 && works(&status, "gen1"),
        "{status:#?}"
    );
    load.finish_unharmed()?;
    bed.agent.check_counters()
}

fn of_two_commands_exactly_one_flips() -> Result<()> {
    let bed = Bed::new()?;
    let (_first, _second) = (bed.first(&[])?, bed.generation(2, &[])?);
    let load = bed.load(8);
    for epoch in 1..=ROUNDS {
        let to = ["gen2", "gen1"][usize::try_from((epoch - 1) % 2)?];
        let flip = || bed.agent.cli(&["flip", "--keep", "--no-wait", "--to", to]);
        let mut codes = both(&flip)?;
        codes.sort_by_key(|cli| cli.code);
        ensure!(
            codes[0].code == 0 && codes[1].code == 1,
            "epoch {epoch}: {codes:?}"
        );
        // The slower one may also have looked only after the faster one's commit.
        let refusals = [
            "is being committed",
            "has committed since",
            "working generation already",
        ];
        let text = &codes[1].stderr;
        ensure!(
            refusals.iter().any(|refusal| text.contains(refusal)),
            "{codes:?}"
        );
        ensure!(bed.agent.service()?.epoch == epoch + 1, "flipped twice");
    }
    load.finish_unharmed()?;
    bed.agent.check_counters()
}

fn a_rollback_at_the_moment_the_drain_ends_is_done_or_refused_and_never_half() -> Result<()> {
    let bed = Bed::new()?;
    let _base = bed.first(&[])?;
    let mut taken_back = 0;
    for number in 2..12 {
        let name = format!("gen{number}");
        let held = bed.generation(number, &["--stop-accepting"])?;
        committed(flip_request(&bed, &name, None)?)?;
        let queued = bed.clients(3)?;
        // Without --keep: the end of the drain tells the server to close.
        committed(request(&bed, Target::Generation("gen1".parse()?), false)?)?;
        held.signal(Signal::USR1)?;
        match request(&bed, Target::Previous, true)? {
            Reply::Committed(back) => {
                ensure!(back.to.as_str() == name, "{back:?}");
                taken_back += 1;
                // It works and goes on working: nobody has told its server to close.
                for _ in 0..20 {
                    let numbers = bed.answers(5)?;
                    ensure!(numbers == [number; 5], "{numbers:?}\n{}", bed.agent.log());
                }
                committed(request(&bed, Target::Generation("gen1".parse()?), false)?)?;
            }
            Reply::Refused(refusal) => {
                ensure!(refusal.code == ErrorCode::NoPrevious, "{refusal:?}");
            }
            other => return Err(anyhow!("{other:?}")),
        }
        ensure!(answers(queued)? == [number; 3], "other answers");
        held.wait_exit(SOON).with_context(|| bed.agent.log())?;
    }
    writeln!(io::stdout(), "{taken_back} of 10 were taken back")?;
    bed.agent.check_counters()
}

fn request(bed: &Bed, to: Target, keep: bool) -> Result<Reply> {
    let request = Request::Flip {
        service: None,
        to,
        if_epoch: None,
        drain_ms: 0,
        keep,
    };
    Ok(Client::connect(&bed.agent.socket())?.ask(&request, SOON)?)
}

fn committed(reply: Reply) -> Result<()> {
    ensure!(matches!(reply, Reply::Committed(_)), "{reply:?}");
    Ok(())
}

/// The same on two threads.
fn both<T: Send>(act: &(impl Fn() -> Result<T> + Sync)) -> Result<[T; 2]> {
    thread::scope(|scope| {
        let threads = [scope.spawn(act), scope.spawn(act)];
        let results = threads.map(|thread| thread.join().map_err(|_panic| anyhow!("panicked")));
        let results: Result<Vec<T>> = results.into_iter().map(|result| result?).collect();
        results?.try_into().ok().context("two results")
    })
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        of_two_requests_with_one_epoch_exactly_one_commits
        of_two_commands_exactly_one_flips
        a_rollback_at_the_moment_the_drain_ends_is_done_or_refused_and_never_half
    }
}
