//! One listening socket and how its accept loops are woken.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};
use socket2::{Domain, Protocol, SockRef, Type};

/// How long to wait for another part of the process to close a file when there are too many.
pub(crate) const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A listener and its bell. There is one descriptor in the process, whoever shares it.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) address: SocketAddr,
    pub(crate) bell: Arc<Bell>,
}

/// What one `accept(2)` brought.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// The queue is empty.
    Nothing,
    /// The process or the system has no descriptor or memory to spare.
    Exhausted,
}

impl Socket {
    /// Opens a SO_REUSEPORT listener.
    pub(crate) fn open(address: SocketAddr, only_v6: bool, backlog: i32) -> io::Result<Self> {
        // Not IPPROTO_MPTCP, whatever the system prefers: reuseport programs do not see it.
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Self::adopt(socket.into())
    }

    /// Takes over a listener that exists.
    pub(crate) fn adopt(listener: TcpListener) -> io::Result<Self> {
        if !SockRef::from(&listener).reuse_port()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the listener was opened without SO_REUSEPORT",
            ));
        }
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Arc::new(listener),
            bell: Arc::new(Bell::new()?),
        })
    }

    /// Takes one connection off the queue, if there is one.
    ///
    /// # Errors
    /// Those of [`accept`].
    pub(crate) fn accept(&self, flags: SocketFlags) -> io::Result<Accepted> {
        accept(&self.listener, flags)
    }

    /// Whether a connection is in the queue; `accept(2)` does not tell while descriptors are short.
    pub(crate) fn has_queued(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        wait(&mut fds, Some(Duration::ZERO))?;
        Ok(!fds[0].revents().is_empty())
    }

    /// Sleeps until a connection may be there or the bell has rung.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut fds = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&*self.bell, PollFlags::IN),
        ];
        wait(&mut fds, None)?;
        if !fds[1].revents().is_empty() {
            self.bell.answer();
        }
        Ok(())
    }
}

/// Takes one connection off a listener's queue, if there is one.
///
/// # Errors
/// Only those that every later call would meet too: the descriptor is not a listener, or no longer
/// one.
pub(crate) fn accept(listener: impl AsFd, flags: SocketFlags) -> io::Result<Accepted> {
    loop {
        return match acceptfrom_with(&listener, SocketFlags::CLOEXEC | flags) {
            Ok((stream, Some(peer))) => {
                let peer = SocketAddr::try_from(peer)?;
                Ok(Accepted::Connection(stream.into(), peer))
            }
            Ok((stream, None)) => {
                let stream = TcpStream::from(stream);
                let peer = stream.peer_addr()?;
                Ok(Accepted::Connection(stream, peer))
            }
            Err(Errno::AGAIN) => Ok(Accepted::Nothing),
            // EPERM is a firewall's doing, or a sandbox's that would repeat it at once.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::PERM) => {
                Ok(Accepted::Exhausted)
            }
            // About one connection, which is gone: accept(2) says to go on.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT,
            ) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// An eventfd: rung by one thread, heard by another that sleeps in `poll(2)`.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub(crate) fn ring(&self) {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            // The counter is full only if it is ringing already.
            Ok(_) | Err(_) => {}
        }
    }

    pub(crate) fn answer(&self) {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            // It is silent only if another thread has answered.
            Ok(_) | Err(_) => {}
        }
    }

    /// Sleeps until it rings, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        wait(&mut fds, Some(timeout))?;
        if !fds[0].revents().is_empty() {
            self.answer();
        }
        Ok(())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `poll(2)`; a signal counts as a wake-up.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
