//! Promise: peers that keep the agent waiting are disconnected, and cost the others nothing.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use synflip_bed::wait::{self, SOON};
use synflip_wire::{Client, ErrorCode, Request};

use super::{
    talk::{hello, is_closed, last_word, says, status},
    victim::Victim,
};

/// Both are borne for ten seconds, by an agent each: at the same time.
#[test]
fn who_keeps_the_agent_waiting_is_disconnected() -> Result<()> {
    thread::scope(|scope| {
        let silent = scope.spawn(who_says_nothing_or_half_of_it);
        who_never_reads_costs_the_others_nothing()?;
        silent.join().map_err(|_panic| anyhow!("panicked"))?
    })
}

fn who_never_reads_costs_the_others_nothing() -> Result<()> {
    let victim = Victim::new()?;
    let before = victim.fixture.agent.resident_kib()?;
    let flood = status()?.repeat(50);
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut stream = victim.connect()?;
        stream.write_all(&hello()?)?;
        stream.set_nonblocking(true)?;
        // As much as the agent takes.
        while stream.write(&flood).is_ok() {}
        deaf.push(stream);
    }
    let mut client = Client::connect(&victim.fixture.agent.socket())?;
    let mut worst = Duration::ZERO;
    for _ in 0..50 {
        let asked = Instant::now();
        client.ask(&Request::Status { service: None }, SOON)?;
        worst = worst.max(asked.elapsed());
    }
    // Far below the ten seconds for which a deaf peer is borne.
    ensure!(worst.as_secs() < 5, "another peer has waited for {worst:?}");
    let grown = victim.fixture.agent.resident_kib()?.saturating_sub(before);
    ensure!(grown < 32 << 10, "the agent has grown by {grown} KiB");
    // They are not borne for ever.
    let all = victim.fds + deaf.len() + 1;
    wait::until("the deaf are disconnected", SOON, || {
        victim
            .fixture
            .agent
            .open_fds()
            .is_ok_and(|now| now + deaf.len() <= all)
    })?;
    drop((client, deaf));
    victim.check_unharmed()
}

fn who_says_nothing_or_half_of_it() -> Result<()> {
    let victim = Victim::new()?;
    let silent = victim.connect()?;
    let (hello, status) = (hello()?, status()?);
    let halves = [
        &hello[..1],
        &hello[..7],
        &hello[..8],
        &hello[..hello.len() - 1],
    ];
    let mut waiting = vec![silent];
    for half in halves {
        let mut stream = victim.connect()?;
        stream.write_all(half)?;
        waiting.push(stream);
    }
    // Half of a message, after one and after two whole ones.
    for whole in [&hello, &[&hello[..], &status].concat()] {
        let mut stream = victim.connect()?;
        stream.write_all(whole)?;
        stream.write_all(&status[..20])?;
        waiting.push(stream);
    }
    // Whoever has said something whole may be silent for as long as he likes.
    let mut patient = Client::connect(&victim.fixture.agent.socket())?;
    patient.ask(&Request::Status { service: None }, SOON)?;

    thread::scope(|scope| {
        let threads: Vec<_> = waiting
            .iter()
            .map(|peer| scope.spawn(|| last_word(peer)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let refusal = thread.join().map_err(|_panic| anyhow!("panicked"))??;
            says(
                &refusal,
                ErrorCode::BadMessage,
                &["nothing complete was said for 10 s"],
            )
        })
    })?;
    ensure!(waiting.iter().all(is_closed), "still connected");
    patient.ask(&Request::Status { service: None }, SOON)?;
    drop(patient);
    victim.check_unharmed()
}
