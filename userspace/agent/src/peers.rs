//! Who is connected to the control socket.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use synflip_plan::ProcessId;
use synflip_wire::{Name, Reply, RequestId};
use tokio::sync::mpsc;

use crate::limits;

/// A message to a peer, with the descriptors that go with it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The request that it answers; none of what is said unasked.
    pub(crate) id: Option<RequestId>,
    pub(crate) reply: Reply,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Who has asked for something, and with which of its requests: what an answer, now or later,
/// needs to find its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) peer: ProcessId,
    pub(crate) request: RequestId,
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// None if it has failed to read what it was sent, and for a process that was adopted.
    pub(crate) outbox: Option<mpsc::Sender<Outgoing>>,
    /// The service and generation it has registered for.
    pub(crate) member_of: Option<(Name, Name)>,
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers(pub(crate) HashMap<ProcessId, Peer>);

/// A number that no other peer has had.
pub(crate) fn new_id() -> ProcessId {
    static LAST: AtomicU64 = AtomicU64::new(ProcessId::ABSENT.0);
    ProcessId(LAST.fetch_add(1, Relaxed) + 1)
}

impl Peers {
    /// Whether a process can be told anything.
    pub(crate) fn listens(&self, peer: ProcessId) -> bool {
        self.0.get(&peer).is_some_and(|peer| peer.outbox.is_some())
    }

    /// Answers a request; a peer that does not read loses its connection.
    pub(crate) fn answer(&mut self, asker: Asker, reply: Reply) {
        self.send(asker.peer, Some(asker.request), reply, Vec::new());
    }

    /// Tells a peer something unasked, with descriptors.
    pub(crate) fn tell(&mut self, peer: ProcessId, reply: Reply, fds: Vec<OwnedFd>) {
        self.send(peer, None, reply, fds);
    }

    fn send(&mut self, peer: ProcessId, id: Option<RequestId>, reply: Reply, fds: Vec<OwnedFd>) {
        let Some(peer) = self.0.get_mut(&peer) else {
            return;
        };
        let full = peer
            .outbox
            .as_ref()
            .is_some_and(|outbox| outbox.try_send(Outgoing { id, reply, fds }).is_err());
        if full {
            tracing::warn!(
                pid = peer.pid,
                "does not read what it is sent; disconnected"
            );
            peer.outbox = None;
        }
    }

    /// Sends an answer that may be left out, if the peer has read what it was sent before.
    pub(crate) fn hint(&self, asker: Asker, reply: Reply) {
        let outbox = self
            .0
            .get(&asker.peer)
            .and_then(|peer| peer.outbox.as_ref());
        if let Some(permit) = outbox
            .filter(|outbox| outbox.capacity() > limits::OUTBOX / 2)
            .and_then(|outbox| outbox.try_reserve().ok())
        {
            permit.send(Outgoing {
                id: Some(asker.request),
                reply,
                fds: Vec::new(),
            });
        }
    }

    pub(crate) fn get(&self, peer: ProcessId) -> Option<&Peer> {
        self.0.get(&peer)
    }
}
