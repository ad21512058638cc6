//! Peers that take more than their share.

use std::{io::Write as _, os::unix::net::UnixStream, time::Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use synflip_bed::wait;
use synflip_wire::{Client, ErrorCode, MAX_REQUEST, Request, frame};

use super::{Victim, last_word, says};
use crate::bed::SOON;

#[test]
fn who_never_reads_costs_the_others_nothing() -> Result<()> {
    let victim = Victim::new()?;
    let before = victim.bed.agent.resident_kib()?;
    let status = frame::encode(&Request::Status { service: None }, 0, MAX_REQUEST)?;
    let flood = status.repeat(50);
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut stream = victim.connect()?;
        stream.set_nonblocking(true)?;
        // As much as the agent takes.
        while stream.write(&flood).is_ok() {}
        deaf.push(stream);
    }
    let mut client = Client::connect(&victim.bed.agent.socket())?;
    let mut worst = std::time::Duration::ZERO;
    for _ in 0..50 {
        let asked = Instant::now();
        client.ask(&Request::Status { service: None }, SOON)?;
        worst = worst.max(asked.elapsed());
    }
    // Far below the ten seconds for which a deaf peer is borne.
    ensure!(worst.as_secs() < 5, "another peer has waited for {worst:?}");
    let grown = victim.bed.agent.resident_kib()?.saturating_sub(before);
    ensure!(grown < 32 << 10, "the agent has grown by {grown} KiB");
    // They are not borne for ever.
    let all = victim.fds + deaf.len() + 1;
    wait::until("the deaf are disconnected", SOON, || {
        victim
            .bed
            .agent
            .open_fds()
            .is_ok_and(|now| now + deaf.len() <= all)
    })?;
    drop((client, deaf));
    victim.check_unharmed()
}

#[test]
fn beyond_its_bound_connections_are_refused_with_a_word() -> Result<()> {
    let victim = Victim::new()?;
    // This process needs one descriptor for each.
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= 2000);
    ensure!(
        enough,
        "1,100 connections need more descriptors than {limit:?}"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?;

    let connect = || UnixStream::connect(victim.bed.agent.socket());
    let mut peers = Vec::new();
    for number in 0..1100 {
        peers.push(connect().with_context(|| format!("connection {number}"))?);
    }
    // The server has a place too, and a command may have one still.
    for stream in &peers[1024..] {
        stream.set_read_timeout(Some(SOON))?;
        let refusal = last_word(stream)?;
        says(
            &refusal,
            ErrorCode::LimitReached,
            &["has 1024 connections already"],
        )?;
    }
    victim.load.more(50)?;
    // A place is free again as soon as one leaves.
    peers.truncate(1000);
    let mut client = None;
    wait::until("a place is free", SOON, || {
        let asked = Client::connect(&victim.bed.agent.socket()).ok();
        client = asked.and_then(|mut client| {
            let status = Request::Status { service: None };
            client
                .ask(&status, SOON)
                .ok()
                .filter(is_status)
                .map(|_| client)
        });
        client.is_some()
    })?;
    drop((peers, client));
    victim.check_unharmed()
}

fn is_status(reply: &synflip_wire::Reply) -> bool {
    matches!(reply, synflip_wire::Reply::Status(_))
}
