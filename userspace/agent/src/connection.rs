//! One connection to the control socket: bytes and descriptors in, messages out.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use synflip_plan::ProcessId;
use synflip_wire::{
    ErrorCode, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, WireError,
    frame::{self, Frames},
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
    let mut frames = Frames::new(MAX_REQUEST);
    let mut buffer = vec![0; 16 << 10];
    // Until it has said something, and while it is in the middle of saying something.
    let mut deadline = Some(Instant::now() + limits::PATIENCE);
    let end = loop {
        tokio::select! {
            // What it is told comes first: a peer that only talks must not starve it.
            biased;
            reply = replies.recv() => {
                let Some(reply) = reply else { break None };
                if let Err(error) = write(&stream, &reply).await {
                    break Some(error);
                }
                if let Some(point) = Point::sent(&reply.reply) {
                    faults.reach(point);
                }
            }
            read = read(&stream, &mut frames, &mut buffer, deadline) => {
                match read {
                    Ok(Some((request, fds))) => {
                        // One at a time: a peer that asks without end waits behind all others.
                        let (turn, handled) = oneshot::channel();
                        let message = Message::Request { peer, request, fds, turn };
                        if messages.send(message).await.is_err() {
                            break None;
                        }
                        // It is handled when nobody can say so any more.
                        drop(handled.await);
                        deadline = None;
                    }
                    Ok(None) => {
                        deadline = deadline
                            .or_else(|| frames.is_partial().then(|| Instant::now() + limits::PATIENCE));
                    }
                    Err(error) => break Some(error),
                }
            }
        }
    };
    if let Some(refusal) = end.and_then(|error| explain(&error)) {
        tracing::debug!(pid, "disconnected: {refusal}");
        refuse(stream, refusal).await;
    }
    drop(messages.send(Message::Gone { peer }).await);
}

/// The next request; `None` if more of it has to come.
///
/// Cancel safe: what was read is in `frames`.
async fn read(
    stream: &UnixStream,
    frames: &mut Frames,
    buffer: &mut [u8],
    deadline: Option<Instant>,
) -> Result<Option<(Request, Vec<OwnedFd>)>, WireError> {
    if let Some(frame) = frames.take()? {
        let request = frame.decode()?;
        return Ok(Some((request, frame.fds)));
    }
    let readable = stream.readable();
    let ready = match deadline {
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
    match stream.try_io(Interest::READABLE, || receive(stream, buffer)) {
        Ok(received) if received.bytes == 0 => Err(WireError::Closed),
        Ok(received) => {
            frames.push(&buffer[..received.bytes], received.fds);
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(WireError::Closed),
        Err(source) => Err(io(source)),
    }
}

async fn write(stream: &UnixStream, outgoing: &Outgoing) -> Result<(), WireError> {
    let frame = frame::encode(&outgoing.reply, outgoing.fds.len(), MAX_REPLY)?;
    let fds: Vec<_> = outgoing.fds.iter().map(OwnedFd::as_fd).collect();
    let deadline = Instant::now() + limits::PATIENCE;
    let failed = |source| WireError::Io {
        op: "writing to",
        source,
    };
    let (mut rest, mut fds) = (frame.as_ref(), fds.as_slice());
    while !rest.is_empty() {
        let writable = timeout_at(deadline, stream.writable()).await;
        writable
            .map_err(|_elapsed| WireError::TimedOut)?
            .map_err(failed)?;
        match stream.try_io(Interest::WRITABLE, || send(stream, rest, fds)) {
            // The descriptors go with the first byte.
            Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}

/// What to tell a peer whose connection ends because of what it sent.
fn explain(error: &WireError) -> Option<Refusal> {
    let code = match error {
        WireError::Closed
        | WireError::Io {
            op: "writing to", ..
        } => return None,
        WireError::Version { .. } => ErrorCode::VersionMismatch,
        WireError::TimedOut => {
            let text = format!(
                "nothing complete was said for {} s",
                limits::PATIENCE.as_secs()
            );
            return Some(Refusal::new(ErrorCode::BadMessage, text));
        }
        _ => ErrorCode::BadMessage,
    };
    Some(Refusal::new(code, chain(error)))
}

/// A last word before the connection ends; a peer that does not read it misses it.
pub(crate) async fn refuse(mut stream: UnixStream, refusal: Refusal) {
    if let Ok(frame) = frame::encode(&Reply::Refused(refusal), 0, MAX_REPLY) {
        // It fits the socket's buffer, or the peer is not reading.
        drop(stream.try_write(&frame));
        drop(stream.shutdown().await);
    }
}
