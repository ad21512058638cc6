//! Listeners that nobody accepts from although a process that holds them lives: it never has, its
//! accept loop has ended, it hangs.
//!
//! The sign is a connection that stays at the head of the accept queue while another listener of
//! the endpoint is accepted from, while the listener's generation works. Where
//! nobody comes to the others, one of them is given a connection of the agent's own. Then
//! the table leaves the listener out, and what is queued on it is lent to those who accept. That
//! they have emptied it says nothing about its own process: so a connection of the agent's own is
//! put into the queue, and when that has been accepted, the listener is in the table again. A
//! server that accepts from none of its listeners is left alone: whoever stops accepting on purpose
//! does that.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, Slot};

use crate::{Effect, Happened, Listener, Moment, Reading, Role, Service, Waiting, time::Retry};

/// What is known of a listener that nobody accepts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stuck {
    /// Nobody did when somebody waited last.
    Seen,
    /// Since then it has been given a connection of the agent's own, which is in its queue until
    /// its process accepts again.
    Asked,
    /// Nobody can be lent it: what waits there shows when its process accepts again.
    Kept,
}

impl Service {
    /// The same connections have headed these listeners' accept queues for a second.
    pub(crate) fn waiting(&mut self, all: &[Waiting], now: Moment) {
        let mut idle = BTreeSet::new();
        for Waiting {
            slot,
            queued,
            beside,
            lendable,
        } in all
        {
            let Some(listener) = self.listeners.get(slot) else {
                continue;
            };
            let its_own = listener.role == Role::Member && listener.custody && !listener.stopped;
            let works = Some(listener.generation) == self.working;
            if !its_own || !works || !listener.is_held() {
                continue;
            }
            let known = listener.stuck.is_some();
            let only_asked = listener.stuck == Some(Stuck::Asked) && *queued <= 1;
            if only_asked || !self.is_accepted_beside(*slot) {
                continue;
            }
            if !(known || *beside) {
                idle.insert(listener.endpoint);
                continue;
            }
            if !known {
                let (generation, endpoint) = (listener.generation, listener.endpoint);
                let endpoint = self.places[&endpoint].address;
                self.record(generation, Happened::Stuck { endpoint });
            }
            self.stuck.get_or_insert_with(|| Retry::now(now));
            if *lendable {
                self.set_stuck(*slot, Some(Stuck::Seen));
                self.hand_over(*slot, Reading::Unknown);
            } else {
                self.set_stuck(*slot, Some(Stuck::Kept));
            }
        }
        for endpoint in idle {
            self.probe_another(endpoint, all);
        }
    }

    /// Gives a connection to a listener of an endpoint on which nobody waits: if it is accepted,
    /// the next look shows that it was.
    fn probe_another(&mut self, endpoint: EndpointId, waiting: &[Waiting]) {
        let is_other = |slot: &Slot| {
            let waits = waiting.iter().any(|waiting| waiting.slot == *slot);
            let listener = self.listeners.get(slot);
            !waits && listener.is_some_and(|l| l.accepts() && l.custody && l.stuck.is_none())
        };
        let other = self.published_slots(endpoint).into_iter().find(is_other);
        if let Some(slot) = other
            && let Some(listener) = self.listeners.get_mut(&slot)
        {
            listener.probes += 1;
            self.put(Effect::Probe { slot });
        }
    }

    /// Takes notice of what a look has shown of the listeners that nobody accepts from.
    pub(crate) fn look_at_stuck(&mut self, readings: &BTreeMap<Slot, Reading>) {
        for slot in self.stuck_to_ask() {
            let Some(reading) = readings.get(&slot).copied() else {
                continue;
            };
            if !reading.is_empty() {
                self.hand_over(slot, reading);
            } else if let Some(listener) = self.listeners.get_mut(&slot) {
                listener.stuck = Some(Stuck::Asked);
                listener.probes += 1;
                self.put(Effect::Probe { slot });
            }
        }
    }

    /// A listener could not be given a connection.
    pub(crate) fn not_probed(&mut self, slot: Slot, now: Moment) {
        if self.listeners.get(&slot).and_then(|l| l.stuck) == Some(Stuck::Asked) {
            self.set_stuck(slot, Some(Stuck::Seen));
            let retry = self.stuck.get_or_insert_with(|| Retry::now(now));
            retry.later(now, self.rules.stuck);
        }
    }

    /// A listener's queue is empty, and nobody had it on loan.
    pub(crate) fn accepts_again(&mut self, slot: Slot, probes: u32) {
        let Some(listener) = self.listeners.get(&slot) else {
            return;
        };
        let expected = matches!(listener.stuck, Some(Stuck::Asked | Stuck::Kept));
        if expected && listener.lent.is_empty() && listener.probes == probes {
            let (generation, endpoint) = (listener.generation, listener.endpoint);
            let endpoint = self.places[&endpoint].address;
            self.set_stuck(slot, None);
            self.record(generation, Happened::AcceptsAgain { endpoint });
        }
    }

    /// The listeners of the working generation that are given a connection as soon as they are empty.
    ///
    /// Those that are lent are not: whoever has one says when it is empty.
    pub(crate) fn stuck_to_ask(&self) -> BTreeSet<Slot> {
        let is_to_ask = |(_, listener): &(&Slot, &Listener)| {
            listener.stuck == Some(Stuck::Seen)
                && listener.is_held()
                && !listener.stopped
                && listener.lent.is_empty()
                && Some(listener.generation) == self.working
        };
        let all = self.listeners.iter().filter(is_to_ask);
        all.map(|(slot, _)| *slot).collect()
    }

    /// Whether anybody accepts from these listeners is found out anew.
    pub(crate) fn unstick(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.set_stuck(*slot, None));
    }

    fn set_stuck(&mut self, slot: Slot, stuck: Option<Stuck>) {
        if let Some(listener) = self.listeners.get_mut(&slot) {
            listener.stuck = stuck;
        }
    }
}
