//! One connection to the control socket: bytes and descriptors in, messages out.
//!
//! It agrees with the peer on what is spoken, answers what this release does not know, and gives
//! all else to the registry, one request at a time, with the id that the answers have to name.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use synflip_plan::{Asker, ProcessId};
use synflip_wire::{
    Answer, Asked, ErrorCode, FIRST_WITH_HELLO, Refusal, Reply, Request, RequestId, VERSIONS,
    WireError,
    frame::{FORMAT_BEFORE_HELLO, Frames},
    receive, send,
};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    error::chain,
    fault::{Faults, Point},
    limits,
    peers::Outgoing,
    registry::Message,
};

/// Carries messages between one peer and the registry.
pub(crate) async fn converse(
    stream: UnixStream,
    peer: ProcessId,
    messages: mpsc::Sender<Message>,
    faults: Faults,
) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let pid = credentials
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or(0);
    let mut line = Line::new(stream);
    if let Err(end) = line.welcome().await {
        return line.hang_up(pid, end).await;
    }
    let (outbox, mut replies) = mpsc::channel(limits::OUTBOX);
    let connected = Message::Connected {
        peer,
        uid: credentials.uid(),
        pid,
        outbox,
    };
    if messages.send(connected).await.is_err() {
        return;
    }
    let end = loop {
        tokio::select! {
            // What it is told comes first: a peer that only talks must not starve it.
            biased;
            reply = replies.recv() => {
                let Some(reply) = reply else { break None };
                if let Err(error) = line.write(&reply).await {
                    break Some(error.into());
                }
                if let Some(point) = Point::sent(&reply.reply) {
                    faults.reach(point);
                }
            }
            asked = line.read() => {
                let handled = match asked {
                    Ok(Some((asked, fds))) => line.handle(asked, fds, peer, &messages).await,
                    Ok(None) => Ok(()),
                    Err(error) => Err(error.into()),
                };
                if let Err(end) = handled {
                    break Some(end);
                }
            }
        }
    };
    if let Some(end) = end {
        line.hang_up(pid, end).await;
    }
    drop(messages.send(Message::Gone { peer }).await);
}

/// The peer's end of the conversation.
struct Line {
    stream: UnixStream,
    frames: Frames,
    buffer: Vec<u8>,
    /// Until it has said something, and while it is in the middle of saying something.
    deadline: Option<Instant>,
    /// Whether it has begun with a frame of this release's format. Until then, what it is told is
    /// in a format that every release reads.
    is_current: bool,
}

/// Why a conversation ends.
enum End {
    Wire(WireError),
    /// The peer is told so; the request is the one that it had asked.
    Refused(Option<RequestId>, Refusal),
    /// The agent ends.
    Stopping,
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl Line {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            frames: Frames::of_requests(),
            buffer: vec![0; 16 << 10],
            deadline: Some(Instant::now() + limits::PATIENCE),
            is_current: false,
        }
    }

    /// Waits for the hello and answers it.
    async fn welcome(&mut self) -> Result<(), End> {
        let asked = loop {
            if let Some((asked, _fds)) = self.read().await? {
                break asked;
            }
        };
        let id = Some(asked.id);
        let Request::Hello(hello) = asked.request else {
            let text = "a conversation begins with a hello; PROTOCOL.md has an example";
            return Err(End::Refused(id, Refusal::new(ErrorCode::BadMessage, text)));
        };
        let welcome = hello.welcome().map_err(|none| {
            let refusal = Refusal::new(ErrorCode::VersionMismatch, none.to_string());
            End::Refused(id, refusal)
        })?;
        tracing::debug!(program = hello.program, welcome.version, "hello");
        let reply = Outgoing {
            id,
            reply: Reply::Hello(welcome),
            fds: Vec::new(),
        };
        Ok(self.write(&reply).await?)
    }

    /// Answers a request that this release does not know, and gives all others to the registry.
    async fn handle(
        &self,
        asked: Asked,
        fds: Vec<OwnedFd>,
        peer: ProcessId,
        messages: &mpsc::Sender<Message>,
    ) -> Result<(), End> {
        let Asked { id, name, request } = asked;
        let refusal = match request {
            Request::Hello(_) => {
                let text = "a hello is said once, at the beginning of a connection";
                Refusal::new(ErrorCode::BadMessage, text)
            }
            Request::Unknown => {
                let text = format!(
                    "synflip agent {} does not know the request {name:?}: upgrade the agent, or do \
                     without",
                    env!("CARGO_PKG_VERSION")
                );
                Refusal::new(ErrorCode::UnknownRequest, text)
            }
            request => {
                // One at a time: a peer that asks without end waits behind all others.
                let (turn, handled) = oneshot::channel();
                let by = Asker {
                    process: peer,
                    request: id,
                };
                let message = Message::Request {
                    by,
                    request,
                    fds,
                    turn,
                };
                messages
                    .send(message)
                    .await
                    .map_err(|_gone| End::Stopping)?;
                // The registry drops the other end when it has handled the request.
                drop(handled.await);
                return Ok(());
            }
        };
        let reply = Outgoing {
            id: Some(id),
            reply: Reply::Refused(refusal),
            fds: Vec::new(),
        };
        Ok(self.write(&reply).await?)
    }

    /// The next request; `None` if more of it has to come.
    ///
    /// Cancel safe: what was read is in `frames`.
    async fn read(&mut self) -> Result<Option<(Asked, Vec<OwnedFd>)>, WireError> {
        if let Some(frame) = self.frames.take()? {
            self.is_current = true;
            let asked = Asked::read(&frame)?;
            self.deadline = None;
            return Ok(Some((asked, frame.fds)));
        }
        if self.frames.is_partial() {
            self.deadline
                .get_or_insert_with(|| Instant::now() + limits::PATIENCE);
        }
        let readable = self.stream.readable();
        let ready = match self.deadline {
            Some(deadline) => timeout_at(deadline, readable)
                .await
                .map_err(|_elapsed| WireError::TimedOut)?,
            None => readable.await,
        };
        let io = |source| WireError::Io {
            op: "reading from",
            source,
        };
        ready.map_err(io)?;
        let (stream, buffer) = (&self.stream, &mut self.buffer);
        match stream.try_io(Interest::READABLE, || receive(stream, buffer)) {
            Ok(received) if received.bytes == 0 => Err(WireError::Closed),
            Ok(received) => {
                self.frames
                    .push(&self.buffer[..received.bytes], received.fds);
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(WireError::Closed),
            Err(source) => Err(io(source)),
        }
    }

    async fn write(&self, outgoing: &Outgoing) -> Result<(), WireError> {
        let frame = Answer::encode(outgoing.id, &outgoing.reply, outgoing.fds.len())?;
        let fds: Vec<_> = outgoing.fds.iter().map(OwnedFd::as_fd).collect();
        let deadline = Instant::now() + limits::PATIENCE;
        let failed = |source| WireError::Io {
            op: "writing to",
            source,
        };
        let (mut rest, mut fds) = (frame.as_ref(), fds.as_slice());
        while !rest.is_empty() {
            let writable = timeout_at(deadline, self.stream.writable()).await;
            writable
                .map_err(|_elapsed| WireError::TimedOut)?
                .map_err(failed)?;
            let stream = &self.stream;
            match stream.try_io(Interest::WRITABLE, || send(stream, rest, fds)) {
                // The descriptors go with the first byte.
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }

    /// Ends the connection; a peer whose fault it is hears why.
    async fn hang_up(self, pid: u32, end: End) {
        let (id, refusal) = match end {
            End::Stopping => return,
            End::Refused(id, refusal) => (id, refusal),
            End::Wire(error) => match explain(&error) {
                Some(refusal) => (asked_with(&error), refusal),
                None => return,
            },
        };
        tracing::debug!(pid, "disconnected: {refusal}");
        if self.is_current {
            last_word(self.stream, Answer::encode(id, &Reply::Refused(refusal), 0)).await;
        } else {
            refuse(self.stream, refusal).await;
        }
    }
}

/// What to tell a peer whose connection ends because of what it sent.
fn explain(error: &WireError) -> Option<Refusal> {
    let (code, text) = match error {
        WireError::Closed
        | WireError::Io {
            op: "writing to", ..
        } => return None,
        WireError::Format {
            theirs: FORMAT_BEFORE_HELLO,
        } => {
            let text = format!(
                "synflip agent {} speaks {VERSIONS} of the control protocol, and this peer version 1, \
                 which has no hello: restart it with a synflip of {FIRST_WITH_HELLO} or later",
                env!("CARGO_PKG_VERSION")
            );
            (ErrorCode::VersionMismatch, text)
        }
        WireError::Format { .. } => (ErrorCode::VersionMismatch, chain(error)),
        WireError::TimedOut => {
            let text = format!(
                "nothing complete was said for {} s",
                limits::PATIENCE.as_secs()
            );
            (ErrorCode::BadMessage, text)
        }
        _ => (ErrorCode::BadMessage, chain(error)),
    };
    Some(Refusal::new(code, text))
}

/// The request that was not understood, if so much of it was.
const fn asked_with(error: &WireError) -> Option<RequestId> {
    match error {
        WireError::Malformed { id, .. } => *id,
        _ => None,
    }
}

/// Refuses a peer that has not said hello, in the way that every release understands.
pub(crate) async fn refuse(stream: UnixStream, refusal: Refusal) {
    last_word(stream, Answer::encode_for_all(refusal)).await;
}

/// A last word before the connection ends; a peer that does not read it misses it.
async fn last_word(mut stream: UnixStream, frame: Result<impl AsRef<[u8]>, WireError>) {
    if let Ok(frame) = frame {
        // It fits the socket's buffer, or the peer is not reading.
        drop(stream.try_write(frame.as_ref()));
        drop(stream.shutdown().await);
    }
}
