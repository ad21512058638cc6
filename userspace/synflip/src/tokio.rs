//! Accepting with tokio.
//!
//! Needs a runtime with its IO and time drivers enabled.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use rustix::net::SocketFlags;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
    task::coop::consume_budget,
    time::sleep,
};

use crate::{
    Phase, Server,
    socket::{Accepted, EXHAUSTED_PAUSE},
};

/// A listener of a [`Server`] that tasks accept from, and which ends by itself when its generation
/// is over; from [`crate::Listener::into_tokio`].
///
/// Several tasks may accept from one listener.
#[derive(Debug)]
pub struct Listener {
    // Dropped first: it takes the socket off epoll, which a descriptor in the agent would keep on.
    fd: AsyncFd<Arc<TcpListener>>,
    listener: crate::Listener,
    /// The events after which the queue has been swept.
    swept: AtomicU64,
}

impl Listener {
    /// Waits for a connection; none once the generation is over and the queue is empty.
    ///
    /// Errors that are about one connection (`ECONNABORTED`) or pass by themselves (`EMFILE`) are
    /// dealt with here.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: a connection is taken off the queue only to be
    /// returned.
    ///
    /// # Errors
    /// Those that every later call would meet too: somebody shut the listener down.
    pub async fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let shared = &self.listener.user.0;
        loop {
            let version = shared.version();
            // Read before the queue is, so that the queue is swept once more after the end.
            let over = shared.is_over();
            let accepted = if self.swept.load(Ordering::Relaxed) == version {
                self.accept_or_event(version).await?
            } else {
                // Not what epoll says, but what is there; that must not keep other tasks waiting.
                consume_budget().await;
                Some(shared.accept(&self.listener.socket, SocketFlags::NONBLOCK)?)
            };
            match accepted {
                Some(Accepted::Connection(stream, peer)) => {
                    return Ok(Some((TcpStream::from_std(stream)?, peer)));
                }
                Some(Accepted::Nothing) if over => return Ok(None),
                Some(Accepted::Nothing) => self.swept.store(version, Ordering::Relaxed),
                Some(Accepted::Exhausted)
                    if over && !shared.has_queued(&self.listener.socket)? =>
                {
                    return Ok(None);
                }
                Some(Accepted::Exhausted) => sleep(EXHAUSTED_PAUSE).await,
                None => {}
            }
        }
    }

    /// Waits for a connection, or for something to happen after `version`.
    async fn accept_or_event(&self, version: u64) -> io::Result<Option<Accepted>> {
        let shared = &self.listener.user.0;
        let socket = &self.listener.socket;
        let mut accepted = pin!(self.fd.async_io(Interest::READABLE, |_| {
            match socket.accept(SocketFlags::NONBLOCK)? {
                Accepted::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other),
            }
        }));
        let mut event = pin!(shared.until(|| (shared.version() != version).then_some(())));
        poll_fn(|cx| match accepted.as_mut().poll(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.map(Some)),
            Poll::Pending => event.as_mut().poll(cx).map(|()| Ok(None)),
        })
        .await
    }

    /// The address it is bound to, with the port that the system chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }
}

impl crate::Listener {
    /// Makes it one that tasks accept from. A runtime takes each socket once: share the result.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`: the runtime has the socket already, or there are too many.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if its IO or time driver is not enabled.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe for the sake of types that change their descriptor; \
                  an Arc<TcpListener> keeps it"
    )]
    pub fn into_tokio(self) -> io::Result<Listener> {
        // It would panic in the middle of a shortage otherwise.
        drop(sleep(EXHAUSTED_PAUSE));
        let fd = Arc::clone(&self.socket.listener);
        Ok(Listener {
            fd: AsyncFd::with_interest(fd, Interest::READABLE)?,
            swept: AtomicU64::new(0),
            listener: self,
        })
    }
}

/// The phases of a server from now on, for tasks; from [`crate::Events::into_tokio`].
#[derive(Debug)]
pub struct Events(crate::Events);

impl Events {
    /// Waits for the next phase; none after the last one, or when the server is gone.
    ///
    /// A slow reader sees the latest phase, not each one on the way.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Phase> {
        let crate::Events { shared, seen } = &mut self.0;
        let phase = shared.until(|| shared.lock().phase_after(*seen)).await?;
        *seen = phase;
        Some(phase)
    }
}

impl crate::Events {
    /// Makes it one that tasks read.
    pub const fn into_tokio(self) -> Events {
        Events(self)
    }
}

impl Server {
    /// The same as [`Server::join`] for tasks, but stays in the generation while it waits: it is
    /// over when the generation is, each listener has been dropped, the sockets are closed and the
    /// agent has been told.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) {
        let shared = &self.shared;
        shared.until(|| shared.lock().ended.then_some(())).await;
    }
}
