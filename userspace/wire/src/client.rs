//! A blocking client: what the CLI and the helper use.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::{
    Answer, Asked, ErrorCode, Event, Hello, Refusal, Reply, Request, RequestId, VERSIONS, Welcome,
    WireError,
    frame::{Format, Frames},
    socket,
};

/// How long the agent may take over taking a connection or a message, and over its hello.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the agent, whose hello has been heard.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
    /// The id of the last request.
    last: RequestId,
    welcome: Welcome,
}

/// What the agent has said.
#[derive(Debug)]
pub struct Message {
    /// The request that it answers; none of what it says unasked.
    pub id: Option<RequestId>,
    /// What it has said.
    pub reply: Reply,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Client {
    /// Connects to the agent's socket, and agrees with the agent on what is spoken.
    ///
    /// # Errors
    /// [`WireError::Connect`] with the error of `connect(2)`: `NotFound` or `ConnectionRefused` if
    /// no agent listens there, `PermissionDenied` if the socket's mode keeps this user out.
    /// [`WireError::OldAgent`] or [`WireError::Version`] if there is no version that both speak,
    /// [`WireError::Refused`] if the agent wants no connection; otherwise those of
    /// [`Self::receive`].
    pub fn connect(path: &Path) -> Result<Self, WireError> {
        let hello = Hello::new();
        let mut client = Self {
            stream: open(path).map_err(WireError::Connect)?,
            frames: Frames::of_replies(),
            last: RequestId(0),
            welcome: Welcome {
                version: hello.versions.max,
                versions: hello.versions,
                features: Vec::new(),
                program: String::new(),
            },
        };
        // An agent that has no room has refused and closed before the hello: its word counts.
        let said = client.send(&Request::Hello(hello), &[]);
        let id = client.last;
        match client.answer(id, PATIENCE) {
            Ok(Reply::Hello(welcome)) if VERSIONS.has(welcome.version) => client.welcome = welcome,
            Ok(Reply::Refused(refusal)) => return Err(no_hello(refusal)),
            Ok(_) => return Err(WireError::NoHello),
            Err(error) => return Err(said.err().unwrap_or(error)),
        }
        Ok(client)
    }

    /// What the agent has said of itself.
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends a request, with the descriptors that belong to it; returns the id that its answers
    /// name.
    ///
    /// # Errors
    /// [`WireError::Io`], or what [`Asked::encode`] refuses.
    pub fn send(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<RequestId, WireError> {
        let id = RequestId(self.last.0 + 1);
        let frame = Asked::encode(id, request, fds.len())?;
        self.last = id;
        let (mut rest, mut fds) = (frame.as_ref(), fds);
        while !rest.is_empty() {
            match socket::send(&self.stream, rest, fds) {
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(WireError::Io {
                        op: "writing to",
                        source,
                    });
                }
            }
        }
        Ok(id)
    }

    /// Waits for the next message that this release knows; without a timeout, for as long as it
    /// takes.
    ///
    /// # Errors
    /// [`WireError::TimedOut`] leaves the connection usable; after any other error it is not.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Message, WireError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let message = self.any(deadline)?;
            if !matches!(message.reply, Reply::Unknown | Reply::Event(Event::Unknown)) {
                return Ok(message);
            }
        }
    }

    /// Waits for the next answer to a request, or for the refusal that ends the connection; what
    /// else comes is ignored.
    ///
    /// # Errors
    /// Those of [`Self::receive`].
    pub fn answer(&mut self, id: RequestId, timeout: Duration) -> Result<Reply, WireError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.receive(Some(left))?;
            let is_last_word = message.id.is_none() && matches!(message.reply, Reply::Refused(_));
            if message.id == Some(id) || is_last_word {
                return Ok(message.reply);
            }
        }
    }

    /// Sends a request without descriptors and waits for one answer.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Self::receive`].
    pub fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Reply, WireError> {
        let id = self.send(request, &[])?;
        self.answer(id, timeout)
    }

    /// The next message, known or not.
    fn any(&mut self, deadline: Option<Instant>) -> Result<Message, WireError> {
        loop {
            if let Some(frame) = self.frames.take()? {
                let Answer { id, reply } = Answer::read(&frame)?;
                return match (frame.format, reply) {
                    (Format::BeforeHello, Reply::Refused(refusal))
                        if refusal.code == ErrorCode::VersionMismatch =>
                    {
                        Err(WireError::OldAgent)
                    }
                    (Format::BeforeHello, reply) if !matches!(reply, Reply::Refused(_)) => {
                        Err(WireError::NoHello)
                    }
                    (_, reply) => Ok(Message {
                        id,
                        reply,
                        fds: frame.fds,
                    }),
                };
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !self.wait(left)? {
                return Err(WireError::TimedOut);
            }
            let mut buffer = [0; 16 << 10];
            let received = match socket::receive(&self.stream, &mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(WireError::Closed);
                }
                Err(source) => {
                    return Err(WireError::Io {
                        op: "reading from",
                        source,
                    });
                }
            };
            if received.bytes == 0 {
                return Err(WireError::Closed);
            }
            self.frames.push(&buffer[..received.bytes], received.fds);
        }
    }

    /// Waits until there is something to read; false if the time is over.
    fn wait(&self, left: Option<Duration>) -> Result<bool, WireError> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(errno) => Err(WireError::Io {
                op: "waiting for",
                source: errno.into(),
            }),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // An agent that hangs must not stop a server for ever: neither here, when its backlog is
    // full, nor later, when the socket's buffer is.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

fn no_hello(refusal: Refusal) -> WireError {
    match refusal.code {
        ErrorCode::VersionMismatch => WireError::Version(refusal),
        _ => WireError::Refused(refusal),
    }
}
