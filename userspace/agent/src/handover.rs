//! Handing over: connections that nobody is left to accept go to a process that lives.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd};

use synflip_plan::{ProcessId, Slot};
use synflip_wire::{MAX_FDS, Reply};

use crate::{
    custody::Custody, fault::Point, limits, peers::Peers, registry::Context, service::Service,
};

/// An accepted connection that no server has taken yet.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The agent's duplicate: should the server die before it has taken the connection, another
    /// one gets it.
    connection: OwnedFd,
    /// The address that the client connected to.
    address: SocketAddr,
    /// Who has been given it, and has not said that it took it.
    to: Option<ProcessId>,
}

/// Connections on their way, by number.
#[derive(Debug, Default)]
pub(crate) struct OnTheirWay {
    last: u64,
    by_id: BTreeMap<u64, Handed>,
}

impl OnTheirWay {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn add(&mut self, connection: OwnedFd, address: SocketAddr) {
        self.last += 1;
        self.by_id.insert(
            self.last,
            Handed {
                connection,
                address,
                to: None,
            },
        );
    }
}

impl Service {
    /// Whether there is somebody to give a listener's connections to.
    pub(crate) fn can_hand_over(&self, slot: Slot, peers: &Peers) -> bool {
        let listener = self.custody.get(&slot);
        listener.is_some_and(|listener| !self.takers(listener.address, peers).is_empty())
    }

    /// Accepts what is queued on a listener that nobody serves, if there is somebody to give it to.
    pub(crate) fn rescue(&mut self, slot: Slot, peers: &Peers) {
        let Some(address) = self.custody.get(&slot).map(|listener| listener.address) else {
            return;
        };
        if self.takers(address, peers).is_empty() {
            return self.relay(slot);
        }
        while self.on_their_way.len() < limits::ON_THEIR_WAY {
            match self.custody.get(&slot).map(Custody::accept) {
                Some(Ok(Some(connection))) => {
                    self.on_their_way.add(connection, address);
                    self.faults.reach(Point::Accepted);
                }
                Some(Ok(None)) | None => break,
                Some(Err(error)) => {
                    tracing::warn!(service = %self.name, slot, "accepting what is left: {error}");
                    break;
                }
            }
        }
    }

    /// Gives the connections that nobody has to processes of the working generation, in turn.
    pub(crate) fn hand_over(&mut self, context: &mut Context) {
        let mut by_address: BTreeMap<SocketAddr, Vec<u64>> = BTreeMap::new();
        for (id, handed) in self
            .on_their_way
            .by_id
            .iter()
            .filter(|(_, handed)| handed.to.is_none())
        {
            by_address.entry(handed.address).or_default().push(*id);
        }
        for (address, ids) in by_address {
            let takers = self.takers(address, &context.peers);
            for (share, taker) in ids.chunks(MAX_FDS).zip(takers.iter().cycle()) {
                self.give(*taker, address, share, context);
            }
        }
    }

    fn give(&mut self, to: ProcessId, address: SocketAddr, ids: &[u64], context: &mut Context) {
        let (mut given, mut fds) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(handed) = self.on_their_way.by_id.get_mut(id) else {
                continue;
            };
            match handed.connection.try_clone() {
                Ok(fd) => fds.push(fd),
                Err(error) => {
                    tracing::warn!(service = %self.name, "handing over: {error}");
                    break;
                }
            }
            handed.to = Some(to);
            given.push(*id);
        }
        tracing::info!(service = %self.name, connections = given.len(), "handed over");
        context.peers.send_with(
            to,
            Reply::Connections {
                address,
                ids: given,
            },
            fds,
        );
    }

    /// A process has taken connections: they are its own now.
    pub(crate) fn taken(&mut self, process: ProcessId, ids: &[u64]) {
        for id in ids {
            if self
                .on_their_way
                .by_id
                .get(id)
                .is_some_and(|handed| handed.to == Some(process))
            {
                self.on_their_way.by_id.remove(id);
            }
        }
        self.faults.reach(Point::Taken);
    }

    /// A process has gone without taking them: others are to.
    pub(crate) fn untaken(&mut self, process: ProcessId) {
        for handed in self.on_their_way.by_id.values_mut() {
            handed.to.take_if(|to| *to == process);
        }
    }

    /// The processes of the working generation that accept connections to an address, and that
    /// can be handed more of them.
    fn takers(&self, address: SocketAddr, peers: &Peers) -> Vec<ProcessId> {
        let endpoint = self.endpoint(address);
        let working = self.plan.working().and_then(|id| self.plan.generation(id));
        let mut takers: Vec<_> = working
            .into_iter()
            .flat_map(|generation| &generation.members)
            .filter(|member| member.ready && member.served && Some(member.endpoint) == endpoint)
            .map(|member| member.process)
            .filter(|process| peers.listens(*process))
            .collect();
        takers.dedup();
        takers
    }
}
