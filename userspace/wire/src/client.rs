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
    MAX_REPLY, MAX_REQUEST, Reply, Request, WireError,
    frame::{self, Frames},
    socket,
};

/// How long the agent may take over taking a connection or a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
}

impl Client {
    /// Connects to the agent's socket.
    ///
    /// # Errors
    /// Those of `connect(2)`: `NotFound` or `ConnectionRefused` if no agent listens there,
    /// `PermissionDenied` if the socket's mode keeps this user out.
    pub fn connect(path: &Path) -> io::Result<Self> {
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
        Ok(Self {
            stream: UnixStream::from(socket),
            frames: Frames::new(MAX_REPLY),
        })
    }

    /// Sends a request, with the descriptors that belong to it.
    ///
    /// # Errors
    /// [`WireError::Io`], or what [`frame::encode`] refuses.
    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let frame = frame::encode(request, fds.len(), MAX_REQUEST)?;
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
        Ok(())
    }

    /// Waits for the next message; without a timeout, for as long as it takes.
    ///
    /// # Errors
    /// [`WireError::TimedOut`] leaves the connection usable; after any other error it is not.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Reply, WireError> {
        self.receive_with_fds(timeout).map(|(reply, _fds)| reply)
    }

    /// The same, with the descriptors that came with the message.
    ///
    /// # Errors
    /// Those of [`Self::receive`].
    pub fn receive_with_fds(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<(Reply, Vec<OwnedFd>), WireError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(frame) = self.frames.take()? {
                return Ok((frame.decode()?, frame.fds));
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

    /// Sends a request without descriptors and waits for one answer.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Self::receive`].
    pub fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Reply, WireError> {
        self.send(request, &[])?;
        self.receive(Some(timeout))
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
