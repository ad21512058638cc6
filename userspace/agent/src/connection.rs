//! One connection to the control socket: bytes and descriptors in, messages out.
//!
//! It agrees with the peer on what is spoken, answers what this release does not know, and gives
//! all else to the registry, one request at a time, with the id that the answers have to name.

mod line;

use std::os::fd::OwnedFd;

use synflip_plan::{Asker, ProcessId};
use synflip_wire::{
    Asked, ErrorCode, FIRST_WITH_HELLO, Refusal, Reply, Request, RequestId, VERSIONS, WireError,
    frame::FORMAT_BEFORE_HELLO,
};
use tokio::{
    net::{UnixStream, unix::UCred},
    sync::{mpsc, oneshot},
};

use crate::{
    error::chain,
    fault::{Faults, Point},
    foreign::Foreign,
    limits,
    peers::Outgoing,
    registry::Message,
};

use line::Line;

/// Carries messages between one peer and the registry; returns when all is closed that it has sent.
pub(crate) async fn converse(
    stream: UnixStream,
    peer: ProcessId,
    messages: mpsc::Sender<Message>,
    faults: Faults,
) {
    let credentials = stream.peer_cred();
    let mut line = Line::new(stream);
    if let Ok(credentials) = credentials {
        let pid = pid(&credentials);
        let talked = match welcome(&mut line).await {
            Ok(()) => talk(&mut line, peer, &credentials, &messages, &faults).await,
            refused => refused,
        };
        if let Err(end) = talked {
            hang_up(&mut line, pid, end).await;
        }
    }
    line.close().await;
}

/// Gives the registry what the peer asks, and the peer what it is told, until one of them ends it.
async fn talk(
    line: &mut Line,
    peer: ProcessId,
    credentials: &UCred,
    messages: &mpsc::Sender<Message>,
    faults: &Faults,
) -> Result<(), End> {
    let (outbox, mut replies) = mpsc::channel(limits::OUTBOX);
    let connected = Message::Connected {
        peer,
        uid: credentials.uid(),
        pid: pid(credentials),
        outbox,
    };
    if messages.send(connected).await.is_err() {
        return Err(End::Stopping);
    }
    let end = loop {
        tokio::select! {
            // What it is told comes first: a peer that only talks must not starve it.
            biased;
            reply = replies.recv() => {
                let Some(reply) = reply else { break Ok(()) };
                if let Err(error) = line.write(&reply).await {
                    break Err(error.into());
                }
                if let Some(point) = Point::sent(&reply.reply) {
                    faults.reach(point);
                }
            }
            asked = line.read() => {
                let handled = match asked {
                    Ok(Some((asked, fds))) => handle(line, asked, fds, peer, messages).await,
                    Ok(None) => Ok(()),
                    Err(error) => Err(error.into()),
                };
                if handled.is_err() {
                    break handled;
                }
            }
        }
    };
    drop(messages.send(Message::Gone { peer }).await);
    end
}

fn pid(credentials: &UCred) -> u32 {
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    pid.unwrap_or(0)
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

/// Waits for the hello and answers it.
async fn welcome(line: &mut Line) -> Result<(), End> {
    let asked = loop {
        if let Some((asked, _fds)) = line.read().await? {
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
        fds: Foreign::default(),
    };
    Ok(line.write(&reply).await?)
}

/// Answers a request that this release does not know, and gives all others to the registry.
async fn handle(
    line: &Line,
    asked: Asked,
    fds: Foreign<Vec<OwnedFd>>,
    peer: ProcessId,
    messages: &mpsc::Sender<Message>,
) -> Result<(), End> {
    let Asked { id, name, request } = asked;
    let takes_any = matches!(request, Request::Register(_) | Request::Adopt(_));
    let fds = if takes_any {
        fds
    } else {
        // What nobody has asked for. It is said no more until that is closed.
        fds.close().await;
        Foreign::default()
    };
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
        fds: Foreign::default(),
    };
    Ok(line.write(&reply).await?)
}

/// Ends the connection; a peer whose fault it is hears why.
async fn hang_up(line: &mut Line, pid: u32, end: End) {
    let (id, refusal) = match end {
        End::Stopping => return,
        End::Refused(id, refusal) => (id, refusal),
        End::Wire(error) => match explain(&error) {
            Some(refusal) => (asked_with(&error), refusal),
            None => return,
        },
    };
    tracing::debug!(pid, "disconnected: {refusal}");
    line.last_word(id, refusal).await;
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
    let mut line = Line::new(stream);
    line.last_word(None, refusal).await;
}
