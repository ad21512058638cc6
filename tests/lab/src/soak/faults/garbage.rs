//! Peers of the control socket that do not speak its protocol.

use std::{
    fs::File,
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Context as _, Result};
use rand::{Rng as _, RngExt as _, rngs::SmallRng};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use synflip_wire::{Asked, Hello, Request, RequestId};

use crate::soak::servers::Servers;

/// Several at a time, all of which the agent has to stand.
pub(super) fn send(servers: &mut Servers<'_>, rng: &mut SmallRng) -> Result<()> {
    let hello = Asked::encode(RequestId(1), &Request::Hello(Hello::new()), 0)?;
    let status = Asked::encode(RequestId(2), &Request::Status { service: None }, 0)?;
    let talk = [&hello[..], &status].concat();
    let mut noise = vec![0; rng.random_range(1..4096)];
    rng.fill_bytes(&mut noise);
    let half = rng.random_range(1..talk.len());
    let files: Vec<OwnedFd> = (0..rng.random_range(1..=MOST_FDS))
        .map(|_| Ok(File::open("/dev/null")?.into()))
        .collect::<Result<_>>()?;
    let lines: [(&[u8], &[OwnedFd]); 4] = [
        (&noise, &[]),
        (&talk[..half], &[]),
        (&talk, &files),
        (&[], &[]),
    ];
    let mut peers = Vec::new();
    for (bytes, files) in lines {
        let peer =
            UnixStream::connect(servers.fixture.agent.socket()).context("connect to the agent")?;
        // The agent may have had enough in the middle of it.
        drop(say(&peer, bytes, files));
        peers.push(peer);
    }
    // It answers others while they are there, and when they leave without a word.
    let working = servers.working();
    servers.wait_working(working)?;
    drop(peers);
    servers.wait_working(working)
}

fn say(peer: &UnixStream, bytes: &[u8], files: &[OwnedFd]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&files));
    }
    sendmsg(
        peer,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The kernel carries no more in one message.
const MOST_FDS: usize = 253;
