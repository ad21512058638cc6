//! No peer of the control socket can hurt the agent, another service, or a client of it.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use synflip_bed::product::Generation;
use synflip_wire::{
    Client, ErrorCode, ListenerSpec, Name, Refusal, Register, Reply, Request,
    frame::{self, Frames},
};

use bed::{Bed, Load, SOON, find};

#[path = "bed.rs"]
mod bed;

#[path = "peers/allowed.rs"]
mod allowed;
#[path = "peers/bounds.rs"]
mod bounds;
#[path = "peers/listeners.rs"]
mod listeners;
#[path = "peers/messages.rs"]
mod messages;

/// A service at work, which must not notice anything.
struct Victim {
    bed: Bed,
    _server: Generation,
    load: Load,
    fds: usize,
}

impl Victim {
    fn new() -> Result<Self> {
        let bed = Bed::new()?;
        let server = bed.first(&[])?;
        let fds = bed.agent.settled_fds()?;
        let load = bed.load(4);
        load.more(20)?;
        let _server = server;
        Ok(Self {
            bed,
            _server,
            load,
            fds,
        })
    }

    fn connect(&self) -> Result<UnixStream> {
        let stream =
            UnixStream::connect(self.bed.agent.socket()).context("connect to the agent")?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }

    /// The agent lives and has forgotten what came; clients have lost nothing.
    fn check_unharmed(self) -> Result<()> {
        self.load.more(50)?;
        let report = self.load.finish_unharmed()?;
        ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
        self.bed.agent.check_counters()?;
        let service = self.bed.agent.service()?;
        ensure!(
            find(&service, "gen1").is_some() && service.epoch == 1,
            "{service:#?}"
        );
        ensure!(service.generations.len() == 1, "{service:#?}");
        ensure!(self.bed.answers(5)? == [1; 5], "others answer");
        let fds = self.bed.agent.settled_fds()?;
        ensure!(
            fds == self.fds,
            "{} descriptors before, {fds} after",
            self.fds
        );
        Ok(())
    }
}

/// The agent's last word on a connection, which has to end after it.
fn last_word(mut stream: &UnixStream) -> Result<Refusal> {
    let (mut frames, mut buffer) = (Frames::new(synflip_wire::MAX_REPLY), [0; 4096]);
    loop {
        if let Some(frame) = frames.take()? {
            let Reply::Refused(refusal) = frame.decode()? else {
                continue;
            };
            return Ok(refusal);
        }
        let read = stream.read(&mut buffer).context("wait for a refusal")?;
        ensure!(read > 0, "disconnected without a word");
        frames.push(&buffer[..read], Vec::new());
    }
}

/// Whether the agent has closed the connection.
fn is_closed(mut stream: &UnixStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A registration, with an entry for each descriptor.
fn register(service: &str, generation: Option<&str>, addresses: &[SocketAddr]) -> Result<Request> {
    let generation = generation.map(str::parse::<Name>).transpose()?;
    Ok(Request::Register(Register {
        service: service.parse()?,
        generation,
        listeners: addresses
            .iter()
            .map(|address| ListenerSpec { address: *address })
            .collect(),
    }))
}

/// The refusal of a request.
fn refusal(client: &mut Client, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Refusal> {
    client.send(request, fds)?;
    match client.receive(Some(SOON))? {
        Reply::Refused(refusal) => Ok(refusal),
        other => bail!("{request:?} was answered with {other:?}"),
    }
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_understood() -> Result<()> {
    let victim = Victim::new()?;
    let mut stream = victim.connect()?;
    let frame = frame::encode(
        &Request::Status { service: None },
        0,
        synflip_wire::MAX_REQUEST,
    )?;
    for byte in frame.iter() {
        stream.write_all(&[*byte])?;
    }
    let (mut frames, mut buffer) = (Frames::new(synflip_wire::MAX_REPLY), [0; 4096]);
    let reply: Reply = loop {
        if let Some(frame) = frames.take()? {
            break frame.decode()?;
        }
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "disconnected");
        frames.push(&buffer[..read], Vec::new());
    };
    ensure!(matches!(reply, Reply::Status(_)), "{reply:?}");
    drop(stream);
    victim.check_unharmed()
}

/// The refusals have to name the thing, the cause and the cure: each of these words.
fn says(refusal: &Refusal, code: ErrorCode, words: &[&str]) -> Result<()> {
    let text = &refusal.text;
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure!(
        refusal.code == code && missing.is_empty(),
        "{missing:?} missing in {refusal:?}"
    );
    Ok(())
}

/// Borrows descriptors of any kind.
fn borrow<T: AsFd>(all: &[T]) -> Vec<BorrowedFd<'_>> {
    all.iter().map(|one| one.as_fd()).collect()
}
