//! What is queued on a listener that nobody accepts from is accepted by somebody else.

use std::collections::BTreeSet;

use synflip_types::{Cookie, Slot};

use crate::{Effect, Link, Moment, ProcessId, Reading, Service};

impl Service {
    /// The processes that connections to a listener's address go to, ready and not absent.
    ///
    /// Not by the listener itself, and by one that nobody accepts from only if `stuck` says so.
    fn accepting_beside(
        &self,
        slot: Slot,
        stuck: bool,
        link: impl Fn(Link) -> bool,
    ) -> Vec<ProcessId> {
        let endpoint = self.listeners.get(&slot).map(|listener| listener.endpoint);
        let table = self.published.as_ref().zip(endpoint);
        let slots = table
            .map(|(table, endpoint)| table.slots(endpoint.0))
            .unwrap_or_default();
        let others = slots.iter().filter(|other| **other != slot.0);
        let listeners = others.filter_map(|slot| self.listeners.get(&Slot(*slot)));
        let holders = listeners
            .filter(|l| l.accepts() && (stuck || l.stuck.is_none()))
            .flat_map(|listener| &listener.holders);
        let ready = holders.filter(|(_, ready)| **ready).map(|(id, _)| *id);
        let known = ready.filter(|id| self.processes.get(id).is_some_and(|p| link(p.link)));
        let all: BTreeSet<ProcessId> = known.collect();
        all.into_iter().collect()
    }

    /// Who can be lent a listener.
    pub(crate) fn takers(&self, slot: Slot) -> Vec<ProcessId> {
        let connected = |link| link == Link::Connected;
        let all = self.accepting_beside(slot, false, connected);
        if !all.is_empty() {
            return all;
        }
        // Where nobody accepts, whoever does so first again.
        self.accepting_beside(slot, true, connected)
    }

    /// Whether somebody accepts connections to a listener's address, from another listener.
    pub(crate) fn is_accepted_beside(&self, slot: Slot) -> bool {
        !self.accepting_beside(slot, false, |_| true).is_empty()
    }

    /// Has what is queued on a listener be accepted by somebody.
    pub(crate) fn hand_over(&mut self, slot: Slot, reading: Reading) {
        // If a listener could not be seen, something may be queued on it.
        if !self.listeners.contains_key(&slot)
            || (reading != Reading::Unknown && reading.queued() == 0)
        {
            return;
        }
        let takers = self.takers(slot);
        if takers.is_empty() {
            // Not if a process that accepts there has yet to connect to this agent: it can be lent the
            // listener then.
            if !self
                .accepting_beside(slot, true, |link| link == Link::Adopted)
                .is_empty()
            {
                self.put(Effect::Relay { slot });
            }
            return;
        }
        for to in takers {
            let listener = self.listeners.get_mut(&slot);
            if listener.is_some_and(|listener| listener.lent.insert(to)) {
                self.put(Effect::Lend { slot, to });
            }
        }
    }

    /// A process has found nothing queued any more on what it was lent.
    pub(crate) fn emptied(&mut self, process: ProcessId, cookies: &[Cookie], now: Moment) {
        for (slot, listener) in &mut self.listeners {
            if cookies.contains(&listener.cookie) && listener.lent.remove(&process) {
                // A look that has begun before may show what has been accepted since: another one
                // is made, of a tombstone too.
                if let Some(look) = &mut self.looking {
                    look.leave_out(*slot);
                    self.relieved = true;
                }
            }
        }
        self.closing_soon(now);
    }
}
