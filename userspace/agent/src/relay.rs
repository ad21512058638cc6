//! Relaying: connections that nobody is left to accept, for servers that cannot be handed any.
//!
//! The agent accepts such a connection, opens a socket for its way to the server, and gives both to
//! the relay process (`synflip-relay`), which connects that socket to the same address, where the
//! program steers it to the working generation, and copies until both ends are done. The server
//! sees the relay's address instead of the client's: the last resort, for what is left on one
//! listener.
//!
//! Where a connection is, whoever dies: in the accept queue, then in the agent for the moment
//! between `accept` and `sendmsg`, then in the queue of the process's socket or in the process,
//! and there it does not need the agent. [`keeper`] finds the process, or starts it.

mod keeper;
mod process;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use synflip_plan::{Pace, Retry};
use synflip_relay::{Counts, Line, Order};
use synflip_wire::Name;
use tokio::sync::{Notify, mpsc, watch};

use crate::{custody::Custody, foreign::Foreign, service::moment};

/// Services that a process may tell of: more than it counts, and than there are at one time.
const SERVICES: usize = 4096;

/// How soon what has failed here is tried again.
const PACE: Pace = Pace {
    first: 100,
    longest: 30_000,
};

/// What the agent hands to the relay process, and what it knows of it; each service's thread has a
/// copy.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    known: Figures,
    /// Told that a process is needed.
    wanted: Arc<Notify>,
    /// Connections that could not be sent: the process has just died.
    unsent: mpsc::UnboundedSender<Handoff>,
    /// When a connection is taken again, since that has failed.
    retry: Option<Retry>,
    started: Instant,
}

/// What the relay process says that it carries, for all who want to know.
#[derive(Clone, Debug)]
pub(crate) struct Figures(watch::Receiver<Known>);

/// What is known of the relay process.
#[derive(Debug, Default)]
struct Known {
    /// None while there is no process.
    to: Option<Arc<Connected>>,
    /// How many connections may have been sent in all.
    may_send: u64,
    counts: BTreeMap<Name, Counts>,
    /// The sums of processes that have died while this agent lives.
    past: BTreeMap<Name, Counts>,
}

/// A process that has said hello.
#[derive(Debug)]
struct Connected {
    line: Foreign<Line>,
    pid: u32,
    places: u64,
    sent: AtomicU64,
}

/// A connection that the agent has accepted, and the socket for its way to the server.
#[derive(Debug)]
struct Handoff {
    service: Name,
    connection: Foreign<OwnedFd>,
    to_server: OwnedFd,
}

impl Relay {
    /// The hand-off, and the task that keeps the process for it, which is to run as long as the
    /// agent. The process's socket is beside the control socket `socket`.
    pub(crate) fn new(socket: &Path) -> (Self, impl Future<Output = ()> + use<>) {
        let mut path = socket.as_os_str().to_owned();
        path.push(".relay");
        let (known, figures) = watch::channel(Known::default());
        let wanted = Arc::new(Notify::new());
        let (unsent, left) = mpsc::unbounded_channel();
        let relay = Self {
            known: Figures(figures),
            wanted: Arc::clone(&wanted),
            unsent,
            retry: None,
            started: Instant::now(),
        };
        (relay, keeper::keep(path.into(), wanted, left, known))
    }

    /// Hands what is queued on a listener to the relay process, and returns how many connections
    /// that were. Never blocks: what the process has no room for stays queued, and all of it while
    /// there is no process yet; it is being started then.
    ///
    /// Only of a listener that no process serves.
    pub(crate) fn take_queue(&mut self, service: &Name, listener: &Custody) -> usize {
        let now = moment(self.started);
        if self.retry.is_some_and(|retry| !retry.is_due(now)) {
            return 0;
        }
        let mut taken = 0;
        match self.take(service, listener, &mut taken) {
            Ok(()) => self.retry = None,
            Err(error) => {
                let retry = self.retry.get_or_insert_with(|| {
                    tracing::warn!(%service, "accepting what is left to relay it: {error}");
                    Retry::now(now)
                });
                retry.later(now, PACE);
            }
        }
        taken
    }

    /// What has been relayed for a service.
    pub(crate) fn counts(&self, service: &Name) -> Counts {
        self.known.counts(service)
    }

    /// The counts, for whoever outlives a borrow of this.
    pub(crate) fn figures(&self) -> Figures {
        self.known.clone()
    }

    fn take(&self, service: &Name, listener: &Custody, taken: &mut usize) -> io::Result<()> {
        // Not for longer: whoever is to write what is known waits until nobody reads it, on the
        // thread of the loop.
        let (to, may_send) = {
            let known = self.known.0.borrow();
            (known.to.clone(), known.may_send)
        };
        let Some(to) = to else {
            self.wanted.notify_one();
            return Ok(());
        };
        while to.line.has_room()? {
            let Some(place) = Place::reserve(&to.sent, may_send) else {
                break;
            };
            // First, so that a connection which cannot be relayed is not accepted.
            let to_server = listener.client()?.into();
            let Some(connection) = listener.accept()? else {
                break;
            };
            let handoff = Handoff {
                service: service.clone(),
                connection: connection.into(),
                to_server,
            };
            *taken += 1;
            if to.send(&handoff, place).is_err() {
                // The keeper sends it to the next one; it lives as long as the agent.
                drop(self.unsent.send(handoff));
                break;
            }
        }
        Ok(())
    }
}

impl Figures {
    /// What has been relayed for a service.
    pub(crate) fn counts(&self, service: &Name) -> Counts {
        let known = self.0.borrow();
        let now = known.counts.get(service).copied().unwrap_or_default();
        let past = known.past.get(service).copied().unwrap_or_default();
        sum(past, now)
    }
}

impl Known {
    /// The process has gone, or nothing is heard of it any more.
    fn ended(&mut self) {
        self.to = None;
        self.may_send = 0;
        if self.past.len() > SERVICES {
            self.past.clear();
        }
        for (service, counts) in std::mem::take(&mut self.counts) {
            let past = self.past.entry(service).or_default();
            *past = sum(*past, Counts { open: 0, ..counts });
        }
    }
}

impl Connected {
    /// Hands a connection over. Never blocks.
    fn send(&self, handoff: &Handoff, place: Place<'_>) -> io::Result<()> {
        let order = Order::Carry {
            service: handoff.service.clone(),
        };
        let fds = [handoff.connection.as_fd(), handoff.to_server.as_fd()];
        self.line.send(&order, &fds)?;
        place.take();
        Ok(())
    }
}

/// One of the connections that may be sent to a process. Services' threads and the keeper send at
/// the same time: each of them has to have one before it accepts or sends.
struct Place<'a> {
    sent: &'a AtomicU64,
    is_taken: bool,
}

impl<'a> Place<'a> {
    /// Counts one more, unless that were more than may be sent.
    fn reserve(sent: &'a AtomicU64, may_send: u64) -> Option<Self> {
        let more = |sent| (sent < may_send).then_some(sent + 1);
        sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let is_taken = false;
        Some(Self { sent, is_taken })
    }

    /// The connection has been sent.
    fn take(mut self) {
        self.is_taken = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            self.sent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        open: a.open.saturating_add(b.open),
        total: a.total.saturating_add(b.total),
        to_server: a.to_server.saturating_add(b.to_server),
        to_client: a.to_client.saturating_add(b.to_client),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_before_the_connection_is_and_free_again_if_none_is_sent() {
        let sent = AtomicU64::new(0);
        let place = Place::reserve(&sent, 1);
        assert!(place.is_some() && Place::reserve(&sent, 1).is_none());
        drop(place);
        Place::reserve(&sent, 1).unwrap().take();
        assert!(Place::reserve(&sent, 1).is_none());
    }
}
