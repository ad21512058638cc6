//! Handing over: what is queued on a listener that nobody serves goes to processes that live.
//!
//! The agent accepts nothing itself. It lends the listener to the working generation's processes,
//! which accept from it until its queue is empty: at every moment a connection is in a queue that
//! somebody holds open, or a server's own, whoever dies.

use std::collections::{BTreeMap, BTreeSet};

use synflip_plan::{ProcessId, Slot};
use synflip_wire::{Cookie, Endpoint, Reply};

use crate::{fault::Point, peers::Peers, registry::Context, service::Service};

/// Who has been lent which listener, and has not given it back.
#[derive(Debug, Default)]
pub(crate) struct Loans(BTreeMap<Slot, BTreeSet<ProcessId>>);

impl Loans {
    /// Whether anybody has it: then the agent's close would not be the last one.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    pub(crate) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    fn has_been_made_to(&self, slot: Slot, to: ProcessId) -> bool {
        self.0.get(&slot).is_some_and(|all| all.contains(&to))
    }

    fn end(&mut self, by: ProcessId, its: impl Fn(Slot) -> bool) {
        self.0.retain(|slot, borrowers| {
            if its(*slot) {
                borrowers.remove(&by);
            }
            !borrowers.is_empty()
        });
    }
}

impl Service {
    /// Whether there is somebody to lend a listener to.
    pub(crate) fn can_hand_over(&self, slot: Slot, peers: &Peers) -> bool {
        !self.takers(slot, peers).is_empty()
    }

    /// Lends a listener that nobody serves to all who can accept what is queued on it, and do not
    /// have it yet.
    pub(crate) fn lend(&mut self, slot: Slot, context: &mut Context) {
        let mut takers = self.takers(slot, &context.peers);
        takers.retain(|to| !self.loans.has_been_made_to(slot, *to));
        for to in takers {
            let Some(listener) = self.custody.get(&slot) else {
                return;
            };
            let endpoint = Endpoint::tcp(listener.address);
            let cookie = Cookie(listener.cookie);
            let lent = match listener.lend() {
                Ok(lent) => lent,
                Err(error) => {
                    tracing::warn!(service = %self.name, slot, "lending its queue: {error}");
                    return;
                }
            };
            self.loans.0.entry(slot).or_default().insert(to);
            self.faults.reach(Point::BeforeLending);
            tracing::debug!(service = %self.name, slot, ?to, "its queue is lent");
            let queue = Reply::Queue { endpoint, cookie };
            context.peers.tell(to, queue, vec![lent]);
        }
    }

    /// A process has found nothing queued any more on listeners, and has closed them.
    pub(crate) fn emptied(&mut self, process: ProcessId, cookies: &[Cookie]) {
        for cookie in cookies {
            let custody = &self.custody;
            let is_it = |slot: Slot| {
                let listener = custody.get(&slot);
                listener.is_some_and(|listener| listener.cookie == cookie.0)
            };
            self.loans.end(process, is_it);
            self.faults.reach(Point::GivenBack);
        }
    }

    /// A process has gone, and what it was lent is closed: others are to have it.
    pub(crate) fn unlend(&mut self, process: ProcessId) {
        self.loans.end(process, |_| true);
    }

    /// The processes of the working generation that accept connections to a listener's address, and
    /// that can be lent it.
    fn takers(&self, slot: Slot, peers: &Peers) -> Vec<ProcessId> {
        let address = self.custody.get(&slot).map(|listener| listener.address);
        let endpoint = address.and_then(|address| self.endpoint(address));
        let working = self.plan.working().and_then(|id| self.plan.generation(id));
        let mut takers: Vec<_> = working
            .into_iter()
            .flat_map(|generation| &generation.members)
            .filter(|member| member.ready && member.served && Some(member.endpoint) == endpoint)
            .map(|member| member.process)
            .filter(|process| peers.listens(*process))
            .collect();
        takers.sort();
        takers.dedup();
        takers
    }
}
