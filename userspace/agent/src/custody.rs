//! The listeners that the agent holds: duplicates that keep a socket, with its queues, alive
//! whatever becomes of the process that opened it.

use std::{
    fmt::Display,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    io::Errno,
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use synflip_plan::Group;
use synflip_types::{Cookie, Endpoint};
use synflip_wire::{ErrorCode, Refusal};

use crate::{foreign::Foreign, netns, sys};

/// A listener in custody.
#[derive(Debug)]
pub(crate) struct Custody {
    fd: OwnedFd,
    /// The address it is bound to.
    pub(crate) address: SocketAddr,
    /// What makes it a member of its reuseport group.
    pub(crate) group: Group,
    /// Its socket cookie.
    pub(crate) cookie: Cookie,
    /// Its inode.
    pub(crate) inode: u64,
}

impl Custody {
    /// Takes a descriptor that a peer says is a listener bound to `address`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn take(fd: OwnedFd, address: SocketAddr) -> Result<(Self, OwnedFd), Refusal> {
        let refuse =
            |text: &str| Refusal::new(ErrorCode::BadListener, format!("{address}: {text}"));
        let stat = fstat(&fd).map_err(|errno| refuse(&format!("cannot be inspected: {errno}")))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(refuse("the descriptor is not a socket"));
        }
        let socket = SockRef::from(&fd);
        let unknown = |what: &str, error: &dyn Display| refuse(&format!("{what}: {error}"));
        let domain = socket
            .domain()
            .map_err(|e| unknown("its domain is unknown", &e))?;
        let kind = socket
            .r#type()
            .map_err(|e| unknown("its type is unknown", &e))?;
        if !matches!(domain, Domain::IPV4 | Domain::IPV6) || kind != Type::STREAM {
            return Err(refuse("the descriptor is not a TCP socket"));
        }
        let protocol = socket
            .protocol()
            .map_err(|e| unknown("its protocol is unknown", &e))?;
        if protocol == Some(Protocol::MPTCP) {
            return Err(refuse(
                "it is an MPTCP socket, which the kernel cannot steer; open it with IPPROTO_TCP \
                 (Go: ListenConfig.SetMultipathTCP(false))",
            ));
        }
        if protocol != Some(Protocol::TCP) {
            return Err(refuse("the descriptor is not a TCP socket"));
        }
        if !socket
            .is_listener()
            .map_err(|e| unknown("its state is unknown", &e))?
        {
            return Err(refuse(
                "it is not listening; call listen() before registering it",
            ));
        }
        if !socket
            .reuse_port()
            .map_err(|e| unknown("SO_REUSEPORT is unknown", &e))?
        {
            return Err(refuse(
                "it lacks SO_REUSEPORT, which must be set before bind()",
            ));
        }
        let bound = socket
            .local_addr()
            .map_err(|e| unknown("its address is unknown", &e))?;
        match bound.as_socket() {
            Some(bound) if same_address(bound, address) => {}
            Some(bound) => return Err(refuse(&format!("it is bound to {bound}, not to this"))),
            None => return Err(refuse("it has no IP address")),
        }
        let netns = sys::socket_netns(fd.as_fd()).map_err(|e| {
            unknown(
                "its network namespace is unknown (the agent needs CAP_NET_ADMIN in it)",
                &e,
            )
        })?;
        let netns_inode = fstat(&netns)
            .map_err(|e| unknown("its network namespace is unknown", &e))?
            .st_ino;
        let group = Group {
            endpoint: Endpoint::tcp(address),
            uid: stat.st_uid,
            netns: netns_inode,
            only_v6: domain == Domain::IPV6
                && socket
                    .only_v6()
                    .map_err(|e| unknown("IPV6_V6ONLY is unknown", &e))?,
            device: socket
                .device()
                .map_err(|e| unknown("its device is unknown", &e))?,
        };
        let cookie = socket
            .cookie()
            .map_err(|e| unknown("its cookie is unknown", &e))?;
        let cookie = Cookie(cookie);
        let inode = stat.st_ino;
        let custody = Self {
            fd,
            address,
            group,
            cookie,
            inode,
        };
        Ok((custody, netns))
    }

    /// Takes a listener that an earlier agent had taken.
    ///
    /// # Errors
    /// If it does not listen any more, or cannot be inspected.
    pub(crate) fn of(fd: OwnedFd) -> std::io::Result<(Self, OwnedFd)> {
        // It may be a listener no more, and take long to close.
        let fd = Foreign::from(fd);
        let address = SockRef::from(&*fd).local_addr()?.as_socket();
        let address = address.ok_or_else(|| std::io::Error::other("it has no IP address"))?;
        Self::take(fd.try_clone()?, address).map_err(std::io::Error::other)
    }

    /// Its TCP_DEFER_ACCEPT, in seconds as the kernel rounds them.
    pub(crate) fn defer_accept(&self) -> std::io::Result<u32> {
        let seconds = sys::defer_accept(self.fd.as_fd())?;
        Ok(u32::try_from(seconds).unwrap_or(0))
    }

    /// Sets its TCP_DEFER_ACCEPT, in seconds.
    pub(crate) fn set_defer_accept(&self, seconds: u32) -> std::io::Result<()> {
        let seconds = libc::c_int::try_from(seconds).map_err(std::io::Error::other)?;
        sys::set_defer_accept(self.fd.as_fd(), seconds)
    }

    /// Whether its server has shut it down: it no longer listens, whoever holds it.
    pub(crate) fn has_stopped(&self) -> bool {
        matches!(SockRef::from(&self.fd).is_listener(), Ok(false))
    }

    /// A duplicate for a process that is to accept what is queued on it.
    ///
    /// Only of a listener that no process serves, or that is in non-blocking mode: see
    /// [`Self::set_nonblocking`].
    pub(crate) fn lend(&self) -> std::io::Result<OwnedFd> {
        self.set_nonblocking()?;
        self.fd.try_clone()
    }

    /// Takes a connection off its queue; none if the queue is empty. Never blocks.
    ///
    /// Only of a listener that no process serves, or that is in non-blocking mode: see
    /// [`Self::set_nonblocking`].
    pub(crate) fn accept(&self) -> std::io::Result<Option<OwnedFd>> {
        self.set_nonblocking()?;
        match accept_with(&self.fd, SocketFlags::CLOEXEC) {
            Ok(connection) => Ok(Some(connection)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts it into non-blocking mode. The mode is the open file's, not the descriptor's: whoever
    /// has a duplicate gets it too, so a server that accepts from it in blocking mode would see
    /// EAGAIN.
    fn set_nonblocking(&self) -> std::io::Result<()> {
        let flags = fcntl_getfl(&self.fd)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&self.fd, flags | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Whether it is in blocking mode: see [`Self::set_nonblocking`].
    pub(crate) fn blocks(&self) -> std::io::Result<bool> {
        Ok(!fcntl_getfl(&self.fd)?.contains(OFlags::NONBLOCK))
    }

    /// An unconnected socket that can be connected to its address: of its IP version, and in its
    /// network namespace.
    pub(crate) fn client(&self) -> std::io::Result<Socket> {
        let namespace = sys::socket_netns(self.as_fd())?;
        let domain = Domain::for_address(self.address);
        netns::within(namespace.as_fd(), || {
            Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
        })
    }

    /// The accept queue's length by another way than the table's.
    pub(crate) fn accept_queue(&self) -> std::io::Result<u32> {
        sys::accept_queue(self.fd.as_fd())
    }
}

impl AsFd for Custody {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Compares addresses but for what a peer cannot know (an IPv6 flow label).
fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}
