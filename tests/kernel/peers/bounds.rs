//! Promise: peers that take more than their share are refused, with a word.

use std::{
    net::SocketAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use anyhow::{Context as _, Result};
use synflip_abi::MAX_SLOTS;
use synflip_bed::wait::{self, SOON};
use synflip_wire::{Client, ErrorCode, Reply, Request};

use super::{
    listeners::listener,
    talk::{accepted, borrow, last_word, leave, refusal, register, says},
    victim::Victim,
};

#[test]
fn beyond_its_bound_connections_are_refused_with_a_word() -> Result<()> {
    let victim = Victim::new()?;
    // This process needs one descriptor for each.
    let connect = || UnixStream::connect(victim.fixture.agent.socket());
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
        let asked = Client::connect(&victim.fixture.agent.socket()).ok();
        client = asked.and_then(|mut client| {
            let status = Request::Status { service: None };
            client
                .ask(&status, SOON)
                .ok()
                .filter(|reply| matches!(reply, Reply::Status(_)))
                .map(|_| client)
        });
        client.is_some()
    })?;
    drop((peers, client));
    victim.check_unharmed()
}

#[test]
fn bounds_of_a_service_are_kept() -> Result<()> {
    let victim = Victim::new()?;
    let (netns, agent) = (&victim.fixture.net.server, victim.fixture.agent.socket());

    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let scattered = (0..17)
        .map(|_| listener(netns, any))
        .collect::<Result<Vec<_>>>()?;
    let (sockets, addresses): (Vec<_>, Vec<_>) = scattered.into_iter().unzip();
    let mut client = Client::connect(&agent)?;
    let many = register("many", None, &addresses)?;
    let limit = ErrorCode::LimitReached;
    says(
        &refusal(&mut client, &many, &borrow(&sockets))?,
        limit,
        &["at most 16 endpoints"],
    )?;
    // All or none: nothing of it is there.
    let nothing = Request::Status {
        service: Some("many".parse()?),
    };
    let refusal_ = refusal(&mut client, &nothing, &[])?;
    says(&refusal_, ErrorCode::NoSuchService, &["many"])?;
    let sixteen = register("many", None, &addresses[..16])?;
    accepted(
        &mut client,
        &sixteen,
        &sockets.iter().take(16).collect::<Vec<_>>(),
    )?;
    leave([client])?;

    let (first, address) = listener(netns, any)?;
    let mut siblings = vec![first];
    let most = MAX_SLOTS as usize;
    for _ in 0..most {
        siblings.push(listener(netns, address)?.0);
    }
    let mut client = Client::connect(&agent)?;
    for share in siblings[..most].chunks(128) {
        let request = register("big", Some("a"), &vec![address; share.len()])?;
        accepted(&mut client, &request, &share.iter().collect::<Vec<_>>())?;
    }
    let last = register("big", None, &[address])?;
    let mut other = Client::connect(&agent)?;
    let refusal = refusal(&mut other, &last, &[siblings[most].as_fd()])?;
    says(
        &refusal,
        limit,
        &[&format!("at most {most} listeners"), "0 are free"],
    )?;
    victim.load.more(50)?;
    leave([client])?;
    drop((other, siblings, sockets));
    victim.check_unharmed()
}
