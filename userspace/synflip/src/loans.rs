//! Queues that another process has left, lent by the agent.
//!
//! The accept loops accept from a lent listener as from their own, so that each connection is in a
//! queue until it is served. When the queue is empty the listener is closed and the agent is told;
//! it lends the listener once more if more comes.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::net::SocketFlags;
use synflip_wire::Cookie;

use crate::socket::{Accepted, Bell, accept};

/// The listeners that are lent to this process.
#[derive(Debug)]
pub(crate) struct Loans {
    /// Read on every accept, hence not under the lock.
    any: AtomicBool,
    open: Mutex<Vec<Arc<Loan>>>,
    ended: Arc<Ended>,
}

/// One of them; closed when the last accept loop that has looked at it is done with it.
#[derive(Debug)]
struct Loan {
    /// Which one it is for the agent.
    cookie: Cookie,
    address: SocketAddr,
    /// None once it is closed.
    listener: Option<OwnedFd>,
    ended: Arc<Ended>,
}

/// Those that have been closed, for the session to report.
#[derive(Debug)]
struct Ended {
    cookies: Mutex<Vec<Cookie>>,
    session: Arc<Bell>,
}

impl Loans {
    /// `session` is rung whenever a loan has ended.
    pub(crate) fn new(session: Arc<Bell>) -> Self {
        Self {
            any: AtomicBool::new(false),
            open: Mutex::default(),
            ended: Arc::new(Ended {
                cookies: Mutex::default(),
                session,
            }),
        }
    }

    /// Adds a listener, which is in non-blocking mode, under its cookie.
    pub(crate) fn add(&self, cookie: Cookie, address: SocketAddr, listener: OwnedFd) {
        let loan = Arc::new(Loan {
            cookie,
            address,
            listener: Some(listener),
            ended: Arc::clone(&self.ended),
        });
        let mut open = lock(&self.open);
        open.push(loan);
        self.any.store(true, Ordering::Release);
    }

    /// Reports a listener that was of no use to anybody, and has been closed.
    pub(crate) fn decline(&self, cookie: Cookie) {
        self.ended.add(cookie);
    }

    /// Takes one connection off the lent queues of an address; none if there is nothing on them.
    pub(crate) fn accept(&self, address: SocketAddr, flags: SocketFlags) -> Option<Accepted> {
        while self.any.load(Ordering::Acquire) {
            let next = lock(&self.open)
                .iter()
                .find(|loan| loan.address == address)
                .cloned();
            let loan = next?;
            match loan.accept(flags) {
                Ok(Accepted::Nothing) | Err(_) => self.end(&loan),
                Ok(accepted) => return Some(accepted),
            }
        }
        None
    }

    /// Whether a queue of an address is lent, and was not empty when it was looked at.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.any.load(Ordering::Acquire)
            && lock(&self.open).iter().any(|loan| loan.address == address)
    }

    /// Gives all of them back.
    pub(crate) fn clear(&self) {
        // Closed after the lock is released.
        let open = std::mem::take(&mut *lock(&self.open));
        self.any.store(false, Ordering::Release);
        drop(open);
    }

    /// The cookies of those that have ended since the last call.
    pub(crate) fn ended(&self) -> Vec<Cookie> {
        std::mem::take(&mut lock(&self.ended.cookies))
    }

    fn end(&self, loan: &Arc<Loan>) {
        let mut open = lock(&self.open);
        open.retain(|other| !Arc::ptr_eq(other, loan));
        self.any.store(!open.is_empty(), Ordering::Release);
    }
}

impl Loan {
    fn accept(&self, flags: SocketFlags) -> io::Result<Accepted> {
        match &self.listener {
            Some(listener) => accept(listener, flags),
            None => Ok(Accepted::Nothing),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Reported only when it is closed: the agent's descriptor is to be the last.
        drop(self.listener.take());
        self.ended.add(self.cookie);
    }
}

impl Ended {
    fn add(&self, cookie: Cookie) {
        lock(&self.cookies).push(cookie);
        self.session.ring();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
