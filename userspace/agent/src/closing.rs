//! Closing what nobody needs any more, without losing a SYN or a request.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use synflip_abi::MemberState;
use synflip_bpf::Variant;
use synflip_plan::{Closing, Member, Pending, Slot, close_order};

use crate::{registry::Context, service::Service};

/// Time between two looks at listeners that cannot be closed yet.
const AGAIN: Duration = Duration::from_millis(100);

impl Service {
    /// Closes the listeners that are neither served nor in a table, as far as that is safe.
    ///
    /// A listener goes when nothing is pending on it, or when the kernel moves what is pending to
    /// the published table's listeners; but never the first of its hash bucket (see
    /// `synflip_plan::close_order`), which stays as a tombstone.
    pub(crate) fn close_unneeded(&mut self, now: Instant, context: &Context) {
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

        let mut wait = false;
        let mut by_endpoint: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for member in unneeded {
            // Its process never came back to give this agent a duplicate.
            if !self.custody.contains_key(&member.slot) {
                self.close(member.slot, Pending::default());
                continue;
            }
            let moves = context.variant == Variant::SelectOrMigrate
                && working
                    .as_ref()
                    .is_some_and(|g| !g.eligible(member.endpoint).is_empty());
            let empty = pending
                .get(&member.slot)
                .is_some_and(|pending| pending.is_empty());
            if empty || moves || self.forced.contains(&member.slot) {
                by_endpoint.entry(member.endpoint).or_default().push(member);
            } else {
                wait = true;
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
            if let Some(member) = members
                .iter()
                .find(|member| closing.keep == Some(member.slot))
            {
                self.bury(member);
            }
        }
        if wait {
            self.close_again = Some(now + AGAIN);
        }
    }

    /// Closes the agent's duplicate, which is the last one if the server has closed its own.
    fn close(&mut self, slot: Slot, left: Pending) {
        // Out of the socket array first: nothing selects it, so no grace period is needed.
        self.clear(slot);
        self.custody.remove(&slot);
        self.forced.remove(&slot);
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
        self.remark(member.slot, MemberState::Tombstone);
        self.plan.bury(member.slot);
        tracing::debug!(service = %self.name, slot = member.slot, "kept as a tombstone");
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
        pending
            .iter()
            .map(|(_, pending)| u64::from(pending.refcnt.saturating_sub(1)))
            .sum()
    }

    fn endpoint_of(&self, slot: Slot) -> Option<u32> {
        self.endpoint(self.custody.get(&slot)?.address)
    }
}
