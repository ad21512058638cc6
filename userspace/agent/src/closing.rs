//! Closing what nobody needs any more, without losing a SYN or a request.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use synflip_abi::{Member as Note, MemberState};
use synflip_plan::{Closing, Member, Pending, Slot, close_order};

use crate::{fault::Point, fdstore, registry::Context, service::Service};

/// Time between two looks at listeners that cannot be closed yet: how long a connection may wait
/// on one before it is handed over.
const AGAIN: Duration = Duration::from_millis(10);

impl Service {
    /// Closes the listeners that are neither served nor in a table, as far as that is safe.
    ///
    /// One that has something queued is lent to the working generation. Only for servers that
    /// cannot be lent anything the kernel is left to move the queue when the listener is closed: a
    /// handshake that ends during the close can be lost, and nothing moves while anybody else
    /// still holds the listener open. Where it does not move it, or not yet, the connections are
    /// relayed. A listener goes when nothing is left and nobody has it, but
    /// never the first of its hash bucket (`synflip_plan::close_order`), which stays as a
    /// tombstone.
    pub(crate) fn close_unneeded(&mut self, now: Instant, context: &mut Context) {
        self.close_again = None;
        let unneeded = self.plan.unneeded();
        if unneeded.is_empty() || self.plan.is_committing() {
            return;
        }
        let held: Vec<Slot> = self.custody.keys().copied().collect();
        let bucket_order = self.pending(&held);
        let pending: BTreeMap<Slot, Pending> = bucket_order.iter().copied().collect();
        let working = self
            .plan
            .working()
            .and_then(|id| self.plan.generation(id))
            .cloned();

        let mut by_endpoint: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for member in unneeded {
            // Its process never came back to give this agent a duplicate.
            if !self.custody.contains_key(&member.slot) {
                self.close(member.slot, Pending::default());
                continue;
            }
            let its = pending.get(&member.slot);
            let moves = context.migrates
                && !self.can_hand_over(member.slot, &context.peers)
                && its.is_some_and(|pending| pending.half_open() == 0)
                && working
                    .as_ref()
                    .is_some_and(|g| !g.eligible(member.endpoint).is_empty());
            let empty = its.is_some_and(|pending| pending.is_empty());
            let ours_is_last = !self.loans.has(member.slot);
            if ours_is_last && (empty || moves) || self.forced.contains(&member.slot) {
                by_endpoint.entry(member.endpoint).or_default().push(member);
            } else {
                self.hand_over(member.slot, &pending, context);
                self.close_again = Some(now + AGAIN);
            }
        }
        for (endpoint, members) in by_endpoint {
            let bucket: Vec<Slot> = bucket_order
                .iter()
                .map(|(slot, _)| *slot)
                .filter(|slot| self.endpoint_of(*slot) == Some(endpoint))
                .collect();
            let slots: Vec<Slot> = members.iter().map(|member| member.slot).collect();
            let closing = if context.tombstones {
                close_order(&bucket, &slots)
            } else {
                Closing {
                    close: slots,
                    keep: None,
                }
            };
            for slot in closing.close {
                let left = pending.get(&slot).copied().unwrap_or_default();
                self.close(slot, left);
            }
            let Some(slot) = closing.keep else { continue };
            if pending.get(&slot).is_some_and(|pending| pending.is_empty()) {
                members
                    .iter()
                    .filter(|member| member.slot == slot)
                    .for_each(|m| self.bury(m));
            } else {
                self.hand_over(slot, &pending, context);
                self.close_again = Some(now + AGAIN);
            }
        }
    }

    /// Has what is queued on a listener be accepted by somebody.
    fn hand_over(&mut self, slot: Slot, pending: &BTreeMap<Slot, Pending>, context: &mut Context) {
        // Of one whose state is not known, something may be queued.
        if pending
            .get(&slot)
            .is_some_and(|pending| pending.queued == 0)
        {
            return;
        }
        if self.can_hand_over(slot, &context.peers) {
            self.lend(slot, context);
        } else {
            self.relay(slot, &mut context.relay);
        }
    }

    /// Closes the agent's duplicate, which is the last one if the server has closed its own.
    fn close(&mut self, slot: Slot, left: Pending) {
        // Out of the socket array first: nothing selects it, so no grace period is needed.
        self.faults.reach(Point::BeforeClose);
        self.clear(slot);
        self.faults.reach(Point::SlotEmptied);
        if let Some(listener) = self.custody.remove(&slot) {
            let cookie = listener.cookie;
            drop(listener);
            self.faults.reach(Point::AfterClose);
            fdstore::forget(cookie);
            self.faults.reach(Point::StoreForgotten);
        }
        self.forced.remove(&slot);
        self.loans.forget(slot);
        self.plan.closed(slot);
        let (queued, half_open) = (left.queued, left.half_open());
        tracing::debug!(service = %self.name, slot, queued, half_open, "closed a listener");
    }

    /// Keeps a drained listener as the first of its hash bucket.
    fn bury(&mut self, member: &Member) {
        if self
            .plan
            .tombstones()
            .iter()
            .any(|other| other.slot == member.slot)
        {
            return;
        }
        self.remark(member.slot, |note| Note {
            state: MemberState::Tombstone,
            ..note
        });
        self.plan.bury(member.slot);
        self.faults.reach(Point::Buried);
        tracing::debug!(service = %self.name, slot = member.slot, "kept as a tombstone");
    }

    /// Takes a tombstone out of its slot: its server has come back to it, and the kernel has a
    /// listener in one slot only. The server's own descriptor keeps it where it is in its bucket.
    pub(crate) fn exhume(&mut self, cookie: u64) {
        let mut tombstones = self.plan.tombstones().iter();
        let slot = tombstones.find(|t| t.cookie == cookie).map(|t| t.slot);
        if let Some(slot) = slot {
            self.close(slot, Pending::default());
        }
    }

    /// Closes everything: the service is over.
    ///
    /// Returns how many connections were pending and are lost with it.
    pub(crate) fn close_all(&mut self) -> u64 {
        let slots: Vec<Slot> = self.custody.keys().copied().collect();
        let pending = self.pending(&slots);
        for slot in slots {
            let left = pending.iter().find(|(other, _)| *other == slot);
            self.close(slot, left.map(|(_, pending)| *pending).unwrap_or_default());
        }
        let pending = pending
            .iter()
            .map(|(_, pending)| u64::from(pending.refcnt.saturating_sub(1)));
        pending.sum()
    }

    fn endpoint_of(&self, slot: Slot) -> Option<u32> {
        self.endpoint(self.custody.get(&slot)?.address)
    }
}
