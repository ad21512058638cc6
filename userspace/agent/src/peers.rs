//! Who is connected to the control socket.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use synflip_plan::{Asker, ProcessId};
use synflip_wire::{Name, Reply, RequestId};
use tokio::sync::mpsc;

use crate::{foreign::Foreign, limits};

/// A message to a peer, with the descriptors that go with it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The request that it answers; none of what is said unasked.
    pub(crate) id: Option<RequestId>,
    pub(crate) reply: Reply,
    pub(crate) fds: Foreign<Vec<OwnedFd>>,
}

/// Where messages to a peer go.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) peer: ProcessId,
    pub(crate) messages: mpsc::Sender<Outgoing>,
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// None if it has failed to read what it was sent.
    pub(crate) outbox: Option<Outbox>,
    /// The service it has registered for, and the generation, once that is known.
    pub(crate) member_of: Option<(Name, Option<Name>)>,
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers(pub(crate) HashMap<ProcessId, Peer>);

/// A number that no other process has had.
pub(crate) fn new_id() -> ProcessId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    ProcessId(LAST.fetch_add(1, Relaxed) + 1)
}

impl Peers {
    pub(crate) fn get(&self, peer: ProcessId) -> Option<&Peer> {
        self.0.get(&peer)
    }

    /// A peer's user; nobody's number if it has gone.
    pub(crate) fn uid(&self, peer: ProcessId) -> u32 {
        self.get(peer).map_or(u32::MAX, |peer| peer.uid)
    }

    /// Where messages to it go, if it reads them.
    pub(crate) fn outbox(&self, peer: ProcessId) -> Option<Outbox> {
        self.get(peer)?.outbox.clone()
    }

    /// A peer that does not read loses its connection.
    pub(crate) fn disconnect(&mut self, peer: ProcessId) {
        if let Some(peer) = self.0.get_mut(&peer)
            && peer.outbox.take().is_some()
        {
            tracing::warn!(
                pid = peer.pid,
                "does not read what it is sent; disconnected"
            );
        }
    }

    /// Answers a request at once.
    pub(crate) fn answer(&mut self, to: Asker, reply: Reply) {
        let (peer, id, fds) = (to.process, Some(to.request), Foreign::default());
        let full = self
            .outbox(peer)
            .is_some_and(|to| to.messages.try_send(Outgoing { id, reply, fds }).is_err());
        if full {
            self.disconnect(peer);
        }
    }

    /// Sends an answer that may be left out: only if at least half of the peer's outbox is free.
    pub(crate) fn hint(&self, to: Asker, reply: Reply) {
        let outbox = self.get(to.process).and_then(|peer| peer.outbox.as_ref());
        if let Some(permit) = outbox
            .map(|outbox| &outbox.messages)
            .filter(|messages| messages.capacity() > limits::OUTBOX / 2)
            .and_then(|messages| messages.try_reserve().ok())
        {
            permit.send(Outgoing {
                id: Some(to.request),
                reply,
                fds: Foreign::default(),
            });
        }
    }
}
