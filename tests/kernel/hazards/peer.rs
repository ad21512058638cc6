//! A peer of the agent that links nothing: it speaks the control protocol by itself, and does to
//! its listeners whatever a test wants it to.
//!
//! It speaks version 2 of the protocol, and to an agent that refuses its hello version 1, so that
//! the programs of an earlier commit can be compared. Tests write requests in words of version 1.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{ErrorKind, Write as _},
    net::TcpListener,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use synflip_bed::{product::Agent, wait::SOON};

pub(crate) use synflip_bed::network::listen;

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    /// The version of the protocol that is spoken.
    version: u16,
    /// The id of the last request.
    last: Cell<u64>,
}

/// What the agent has said, with the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: Value,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    /// Whether it is an answer: everything else can come at any time.
    pub(crate) fn is_answer(&self) -> bool {
        self.body["reply"] != "event" && self.body["reply"] != "queue"
    }
}

impl Peer {
    /// Connects to an agent, and says no more than hello.
    pub(crate) fn connect(agent: &Agent) -> Result<Self> {
        let mut peer = Self::open(agent, 2)?;
        let hello = json!({ "request": "hello", "versions": { "min": 2, "max": 2 } });
        let answer = peer.tried(&hello, &[])?;
        match answer["reply"].as_str() {
            Some("hello") => Ok(peer),
            _ if answer["code"] == "version-mismatch" => Self::open(agent, 1),
            _ => bail!("no hello but {answer}"),
        }
    }

    fn open(agent: &Agent, version: u16) -> Result<Self> {
        let stream = UnixStream::connect(agent.socket()).context("connect to the agent")?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(Self {
            stream,
            bytes: Vec::new(),
            fds: VecDeque::new(),
            version,
            last: Cell::new(0),
        })
    }

    /// Sends a request, with the descriptors that belong to it.
    pub(crate) fn send(&self, request: &Value, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let frame = self.frame(request, fds.len())?;
        let sent = synflip_wire::send(&self.stream, &frame, fds).context("send to the agent")?;
        self.go_on(&frame[sent..])
    }

    /// Sends a request with the only descriptors there are: nobody but the agent has them when
    /// it knows what they are for.
    pub(crate) fn give(&self, request: &Value, fds: Vec<OwnedFd>) -> Result<()> {
        let frame = self.frame(request, fds.len())?;
        let (last, most) = frame.split_last().context("a frame")?;
        let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let sent =
            synflip_wire::send(&self.stream, most, &borrowed).context("send to the agent")?;
        drop(fds);
        self.go_on(&most[sent..])?;
        self.go_on(&[*last])
    }

    fn frame(&self, request: &Value, fds: usize) -> Result<Vec<u8>> {
        let mut request = request.clone();
        if self.version > 1 {
            self.last.set(self.last.get() + 1);
            request["id"] = self.last.get().into();
            for listener in request["listeners"].as_array_mut().into_iter().flatten() {
                let address = listener["address"].as_str().context("an address")?;
                *listener = json!({ "endpoint": format!("tcp/{address}") });
            }
        }
        let document = serde_json::to_vec(&request)?;
        let mut frame = u32::try_from(document.len())?.to_le_bytes().to_vec();
        frame.extend(self.version.to_le_bytes());
        frame.extend(u16::try_from(fds)?.to_le_bytes());
        frame.extend(document);
        Ok(frame)
    }

    /// The request that gives a lent queue back.
    pub(crate) fn emptied(&self, queue: &Value) -> Value {
        match self.version {
            1 => json!({ "request": "emptied", "ids": [queue["id"]] }),
            _ => json!({ "request": "emptied", "cookies": [queue["cookie"]] }),
        }
    }

    fn go_on(&self, rest: &[u8]) -> Result<()> {
        (&self.stream).write_all(rest).context("send to the agent")
    }

    /// Sends a request and waits for the answer, which may be a refusal.
    pub(crate) fn tried(&mut self, request: &Value, fds: &[BorrowedFd<'_>]) -> Result<Value> {
        self.send(request, fds)?;
        loop {
            let message = self.receive(SOON)?.context("no answer in time")?;
            if message.is_answer() {
                return Ok(message.body);
            }
        }
    }

    /// Sends a request, which must not be refused.
    pub(crate) fn told(&mut self, request: &Value, fds: &[BorrowedFd<'_>]) -> Result<Value> {
        let answer = self.tried(request, fds)?;
        ensure!(answer["reply"] != "refused", "{request}: {answer}");
        Ok(answer)
    }

    /// Registers listeners for a generation, says that it is ready, and waits until it is known.
    pub(crate) fn join(
        &mut self,
        service: &str,
        generation: &str,
        listeners: &[TcpListener],
    ) -> Result<()> {
        let fds: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
        self.told(&register(service, generation, listeners)?, &fds)?;
        self.told(&json!({ "request": "ready" }), &[]).map(drop)
    }

    /// The next message; none if there is none in time.
    pub(crate) fn receive(&mut self, limit: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 16 << 10];
            match synflip_wire::receive(&self.stream, &mut buffer) {
                Ok(received) if received.bytes == 0 => bail!("the agent has closed the connection"),
                Ok(received) => {
                    self.bytes.extend(&buffer[..received.bytes]);
                    self.fds.extend(received.fds);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receive from the agent"),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Message>> {
        let Some(&[a, b, c, d, _, _, e, f]) = self.bytes.first_chunk() else {
            return Ok(None);
        };
        let end = HEADER + usize::try_from(u32::from_le_bytes([a, b, c, d]))?;
        let Some(document) = self.bytes.get(HEADER..end) else {
            return Ok(None);
        };
        let body = serde_json::from_slice(document).context("the agent's message")?;
        let count = usize::from(u16::from_le_bytes([e, f]));
        ensure!(self.fds.len() >= count, "{count} descriptors are missing");
        self.bytes.drain(..end);
        let fds = self.fds.drain(..count).collect();
        Ok(Some(Message { body, fds }))
    }
}

/// The request that registers listeners.
pub(crate) fn register(
    service: &str,
    generation: &str,
    listeners: &[TcpListener],
) -> Result<Value> {
    let address = |listener: &TcpListener| Ok(json!({ "address": listener.local_addr()? }));
    let listeners: Vec<_> = listeners.iter().map(address).collect::<Result<_>>()?;
    Ok(json!({
        "request": "register",
        "service": service,
        "generation": generation,
        "listeners": listeners,
    }))
}

/// Bytes before the document: its length, the version, the number of descriptors.
const HEADER: usize = 8;
