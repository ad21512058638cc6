//! Listeners that nobody accepts from although a process that holds them lives: it never has, its
//! accept loop has ended, it hangs.
//!
//! The sign is a connection that stays at the head of the accept queue while another listener of
//! the endpoint is accepted from, or while the listener's generation does not work any more. Then
//! the table leaves the listener out, and what is queued on it is lent to those who accept. That
//! they have emptied it says nothing about its own process: so a connection of the agent's own is
//! put into the queue, and when that has been accepted, the listener is in the table again. A
//! server that accepts from none of its listeners is left alone: whoever stops accepting on purpose
//! does that.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::Slot;

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
            if !its_own || !listener.is_held() {
                continue;
            }
            let is_old = Some(listener.generation) != self.working;
            let known = listener.stuck.is_some();
            let only_asked = listener.stuck == Some(Stuck::Asked) && *queued <= 1 && !is_old;
            let is_sign = known || is_old || *beside;
            if only_asked || !is_sign || !self.is_accepted_beside(*slot) {
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
    }

    /// Takes notice of what a look has shown of the listeners that nobody accepts from.
    pub(crate) fn look_at_stuck(&mut self, readings: &BTreeMap<Slot, Reading>) {
        for slot in self.stuck_slots() {
            let Some(reading) = readings.get(&slot).copied() else {
                continue;
            };
            let listener = &self.listeners[&slot];
            let (generation, works) = (
                listener.generation,
                Some(listener.generation) == self.working,
            );
            match listener.stuck {
                // Whoever has it on loan says when it is empty.
                _ if !listener.lent.is_empty() => {}
                Some(Stuck::Seen) if reading.is_empty() && works => {
                    self.set_stuck(slot, Some(Stuck::Asked));
                    self.put(Effect::Probe { slot });
                }
                Some(Stuck::Asked | Stuck::Kept) if reading.is_empty() => {
                    self.set_stuck(slot, None);
                    let endpoint = self.places[&self.listeners[&slot].endpoint].address;
                    self.record(generation, Happened::AcceptsAgain { endpoint });
                }
                Some(Stuck::Kept) => {}
                Some(Stuck::Asked) if reading.queued() <= 1 && works => {}
                Some(_) if reading.queued() > 0 => {
                    self.set_stuck(slot, Some(Stuck::Seen));
                    self.hand_over(slot, reading);
                }
                _ => {}
            }
        }
    }

    /// A listener could not be given a connection.
    pub(crate) fn not_probed(&mut self, slot: Slot) {
        if let Some(listener) = self.listeners.get_mut(&slot)
            && listener.stuck.is_some()
        {
            listener.stuck = Some(Stuck::Seen);
        }
    }

    /// The listeners that nobody accepts from although a process holds them.
    pub(crate) fn stuck_slots(&self) -> BTreeSet<Slot> {
        let is_stuck = |(_, listener): &(&Slot, &Listener)| {
            listener.stuck.is_some() && listener.is_held() && !listener.stopped
        };
        let stuck = self.listeners.iter().filter(is_stuck);
        stuck.map(|(slot, _)| *slot).collect()
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
