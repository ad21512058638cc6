//! What a peer says to the agent, and what it hears.

use std::{
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::Socket;
use synflip_bed::wait::SOON;
use synflip_wire::{
    Answer, Asked, Client, Endpoint, ErrorCode, Hello, ListenerSpec, Name, Refusal, Register,
    Reply, Request, RequestId, frame::Frames,
};

/// A registration, with an entry for each descriptor.
pub(super) fn register(
    service: &str,
    generation: Option<&str>,
    addresses: &[SocketAddr],
) -> Result<Request> {
    let generation = generation.map(str::parse::<Name>).transpose()?;
    Ok(Request::Register(Register {
        service: service.parse()?,
        generation,
        listeners: addresses
            .iter()
            .map(|address| ListenerSpec {
                endpoint: Endpoint::tcp(*address),
            })
            .collect(),
    }))
}

/// Registers sockets, which has to be granted.
pub(super) fn accepted(client: &mut Client, request: &Request, sockets: &[&Socket]) -> Result<()> {
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let id = client.send(request, &fds)?;
    let reply = client.answer(id, SOON)?;
    ensure!(matches!(reply, Reply::Registered { .. }), "{reply:?}");
    Ok(())
}

/// The refusal of a request.
pub(super) fn refusal(
    client: &mut Client,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> Result<Refusal> {
    let id = client.send(request, fds)?;
    match client.answer(id, SOON)? {
        Reply::Refused(refusal) => Ok(refusal),
        other => bail!("{request:?} was answered with {other:?}"),
    }
}

/// The refusals have to name the thing, the cause and the cure: each of these words.
pub(super) fn says(refusal: &Refusal, code: ErrorCode, words: &[&str]) -> Result<()> {
    let text = &refusal.text;
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure!(
        refusal.code == code && missing.is_empty(),
        "{missing:?} missing in {refusal:?}"
    );
    Ok(())
}

/// What the agent says on a connection that is no [`Client`]'s.
pub(super) struct Replies<'a> {
    stream: &'a UnixStream,
    frames: Frames,
}

impl<'a> Replies<'a> {
    pub(super) fn of(stream: &'a UnixStream) -> Self {
        Self {
            stream,
            frames: Frames::of_replies(),
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Answer> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.frames.take()? {
                return Ok(Answer::read(&frame)?);
            }
            let read = self.stream.read(&mut buffer).context("wait for a word")?;
            ensure!(read > 0, "disconnected without a word");
            self.frames.push(&buffer[..read], Vec::new());
        }
    }
}

/// The bytes of a hello.
pub(super) fn hello() -> Result<Vec<u8>> {
    Ok(Asked::encode(RequestId(1), &Request::Hello(Hello::new()), 0)?.to_vec())
}

/// The bytes of a question for the status.
pub(super) fn status() -> Result<Vec<u8>> {
    Ok(Asked::encode(RequestId(2), &Request::Status { service: None }, 0)?.to_vec())
}

/// The agent's last word on a connection, which has to end after it.
pub(super) fn last_word(stream: &UnixStream) -> Result<Refusal> {
    let mut replies = Replies::of(stream);
    loop {
        if let Reply::Refused(refusal) = replies.next()?.reply {
            return Ok(refusal);
        }
    }
}

/// Whether the agent has closed the connection.
pub(super) fn is_closed(mut stream: &UnixStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Leaves on purpose, so that the agent does not hold the listeners for a successor.
pub(super) fn leave(clients: impl IntoIterator<Item = Client>) -> Result<()> {
    for mut client in clients {
        let reply = client.ask(&Request::Closed, SOON)?;
        ensure!(reply == Reply::Done, "{reply:?}");
    }
    Ok(())
}

/// Borrows descriptors of any kind.
pub(super) fn borrow<T: AsFd>(all: &[T]) -> Vec<BorrowedFd<'_>> {
    all.iter().map(|one| one.as_fd()).collect()
}
