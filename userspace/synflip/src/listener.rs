//! Accepting with threads.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::net::SocketFlags;

use crate::{
    shared::Shared,
    socket::{Accepted, EXHAUSTED_PAUSE, Socket},
};

/// A listener of a [`crate::Server`], which ends by itself when its generation is over.
///
/// Several threads may accept from one listener. A clone is another handle to the same socket: it
/// stays open until the generation is over *and* each handle has been dropped.
#[derive(Debug)]
pub struct Listener {
    // Dropped before `user`: when the last user is gone, the sockets are the session's alone.
    pub(crate) socket: Socket,
    pub(crate) user: User,
}

impl Listener {
    /// Waits for a connection; none once the generation is over and the queue is empty.
    ///
    /// Errors that are about one connection (`ECONNABORTED`) or pass by themselves (`EMFILE`) are
    /// dealt with here.
    ///
    /// # Errors
    /// Those that every later call would meet too: somebody shut the listener down.
    pub fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        loop {
            // Read before the queue is, so that the queue is swept once more after the end.
            let over = self.user.0.is_over();
            match self.user.0.accept(&self.socket, SocketFlags::empty())? {
                Accepted::Connection(stream, peer) => return Ok(Some((stream, peer))),
                Accepted::Nothing if over => break,
                Accepted::Nothing => self.socket.wait()?,
                Accepted::Exhausted if over && !self.user.0.has_queued(&self.socket)? => break,
                Accepted::Exhausted => self.socket.bell.wait(EXHAUSTED_PAUSE)?,
            }
        }
        // This thread may have taken the wake-up of another one that shares the listener.
        self.socket.bell.ring();
        Ok(None)
    }

    /// The connections, until the generation is over. Ends after an error.
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: Some(self),
        }
    }

    /// The address it is bound to, with the port that the system chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.socket.address
    }
}

impl Clone for Listener {
    fn clone(&self) -> Self {
        Self {
            socket: self.socket.clone(),
            user: self.user.clone(),
        }
    }
}

impl AsFd for Listener {
    /// For socket options. It is in non-blocking mode; leave it there.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.listener.as_fd()
    }
}

impl<'a> IntoIterator for &'a Listener {
    type Item = io::Result<(TcpStream, SocketAddr)>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The connections of a [`Listener`]; from [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: Option<&'a Listener>,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<(TcpStream, SocketAddr)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.listener?.accept().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.listener = None;
        }
        next
    }
}

/// Counts a listener handle for as long as it lives.
#[derive(Debug)]
pub(crate) struct User(pub(crate) Arc<Shared>);

impl User {
    /// Counts one more. The caller holds the lock if it reads the sockets to hand one out.
    pub(crate) fn count(shared: &Arc<Shared>, listeners: &mut usize) -> Self {
        *listeners += 1;
        Self(Arc::clone(shared))
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        Self::count(&self.0, &mut self.0.lock().listeners)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.listeners -= 1;
        if state.listeners == 0 {
            self.0.bell.ring();
        }
    }
}
