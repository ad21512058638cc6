//! Connections that another process has left in its queue.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Handed-over connections, on their way from the session to an accept loop.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Read on every accept, hence not under the lock.
    any: AtomicBool,
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    waiting: VecDeque<(Option<u64>, TcpStream, SocketAddr)>,
    /// Numbers of those that an accept loop has taken, for the session to report.
    taken: Vec<u64>,
}

impl Handed {
    /// Adds a connection under the agent's number for it.
    ///
    /// One whose client has gone meanwhile has no peer address: it is reported as taken, since
    /// nobody could do more for it.
    pub(crate) fn push(&self, id: u64, connection: OwnedFd) {
        let stream = TcpStream::from(connection);
        let peer = stream.peer_addr();
        let mut queues = self.lock();
        match peer {
            Ok(peer) => {
                queues.waiting.push_back((Some(id), stream, peer));
                self.any.store(true, Ordering::Release);
            }
            Err(_gone) => queues.taken.push(id),
        }
    }

    /// Takes one for an accept loop.
    pub(crate) fn take(&self) -> Option<(TcpStream, SocketAddr)> {
        if self.is_empty() {
            return None;
        }
        let mut queues = self.lock();
        let (id, stream, peer) = queues.waiting.pop_front()?;
        queues.taken.extend(id);
        self.any
            .store(!queues.waiting.is_empty(), Ordering::Release);
        Some((stream, peer))
    }

    /// Whether none is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The numbers of those taken since the last call.
    pub(crate) fn taken(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().taken)
    }

    /// Forgets the numbers, but not the connections: they were those of an agent that is gone, and
    /// the next one begins to count anew.
    pub(crate) fn forget_numbers(&self) {
        let mut queues = self.lock();
        queues.taken.clear();
        queues.waiting.iter_mut().for_each(|(id, ..)| *id = None);
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
