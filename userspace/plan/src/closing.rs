//! Closing what nobody needs any more, without losing a SYN or a request.
//!
//! A lookup walks a hash bucket and takes the first listener that matches; only then does it ask
//! that listener's reuseport group. `reuseport_detach_sock` takes a closing listener out of the
//! group before it leaves the bucket (5.10 to 7.3), so for a moment the *first* of the bucket,
//! and only the first, can be taken as the result itself: its SYN is dropped or answered by a
//! RST. `/proc/net/tcp{,6}` shows the bucket's order.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, Slot};

use crate::{
    Effect, NoteState, Reading, Role, Service,
    tcp::{Closing, close_order},
};

impl Service {
    /// The listeners that nobody accepts from and that no table mentions, now or in a moment.
    pub(crate) fn unneeded(&self) -> BTreeSet<Slot> {
        let mentioned = self.mentioned();
        let is_unneeded = |slot: &Slot| {
            let Some(listener) = self.listeners.get(slot) else {
                return false;
            };
            let given_up = self
                .places
                .get(&listener.endpoint)
                .is_some_and(|place| place.given_up);
            listener.role != Role::Joining
                && !listener.is_anybodys()
                && (given_up || listener.forced || !mentioned.contains(slot))
        };
        self.listeners.keys().copied().filter(is_unneeded).collect()
    }

    /// Closes listeners as far as that is safe.
    ///
    /// One that has something queued is lent to the working generation. Only for servers that
    /// cannot be lent anything the kernel is left to move the queue when the listener is closed: a
    /// handshake that ends during the close can be lost, and nothing moves while anybody else
    /// still holds the listener open. Where it does not move it, or not yet, the connections are
    /// relayed. A listener goes when nothing is left and nobody has it, but never the first of its
    /// hash bucket ([`close_order`]), which stays as a tombstone.
    pub(crate) fn close_unneeded(
        &mut self,
        looked_at: &BTreeSet<Slot>,
        readings: &[(Slot, Reading)],
    ) {
        if self.change.is_some() {
            self.relieved = true;
            return;
        }
        let by_slot: BTreeMap<Slot, Reading> = readings.iter().copied().collect();
        let reading = |slot| by_slot.get(&slot).copied().unwrap_or(Reading::Unknown);
        let mut closable: BTreeMap<EndpointId, Vec<Slot>> = BTreeMap::new();
        let mut pending = Vec::new();
        for slot in self.unneeded().intersection(looked_at).copied() {
            if self.may_close(slot, reading(slot)) {
                let endpoint = self.listeners[&slot].endpoint;
                closable.entry(endpoint).or_default().push(slot);
            } else {
                pending.push(slot);
            }
        }
        for (endpoint, slots) in closable {
            let of_endpoint = |slot: &Slot| {
                let listener = self.listeners.get(slot);
                listener.is_some_and(|listener| listener.endpoint == endpoint)
            };
            let in_bucket = readings
                .iter()
                .filter(|(_, reading)| matches!(reading, Reading::Pending(_)));
            let mut bucket: Vec<Slot> = in_bucket
                .map(|(slot, _)| *slot)
                .filter(of_endpoint)
                .collect();
            // Whoever has come since the look began may be anywhere in the bucket, and is to be
            // protected too.
            let newcomers = self.listeners.keys().filter(|slot| of_endpoint(slot));
            let newcomers = newcomers.filter(|slot| !by_slot.contains_key(slot));
            bucket.extend(newcomers);
            let closing = if self.rules.tombstones {
                close_order(&bucket, &slots)
            } else {
                Closing {
                    close: slots,
                    keep: None,
                }
            };
            for slot in closing.close {
                self.close(slot, self.lost_with(slot, reading(slot)));
            }
            match closing.keep {
                Some(slot) if reading(slot).is_empty() => self.keep_as_tombstone(slot),
                // What is pending on it is given up: it cannot wait there for ever.
                Some(slot) if self.loses(slot) => {
                    self.close(slot, self.lost_with(slot, reading(slot)));
                }
                Some(slot) => pending.push(slot),
                None => {}
            }
        }
        // What came to a tombstone past the program is handed over when it is queued.
        let lent = |slot| self.listeners.get(slot).is_some_and(|l| !l.lent.is_empty());
        self.relieved |= pending
            .iter()
            .any(|slot| !reading(*slot).is_empty() || lent(slot));
        for slot in &pending {
            self.hand_over(*slot, reading(*slot));
        }
    }

    /// Whether a listener can be closed once its place in the bucket allows it.
    fn may_close(&self, slot: Slot, reading: Reading) -> bool {
        if self.loses(slot) {
            return true;
        }
        let moves = self.rules.migrates
            && matches!(reading, Reading::Pending(pending) if pending.half_open() == 0)
            && self.takers(slot).is_empty()
            && self.is_accepted_beside(slot);
        let listener = &self.listeners[&slot];
        listener.lent.is_empty() && (reading.is_empty() || moves)
    }

    /// What is lost with a listener that is closed now. If it may be closed before it is empty, the
    /// kernel moves what is left, unless it is given up.
    fn lost_with(&self, slot: Slot, reading: Reading) -> u32 {
        if self.loses(slot) {
            reading.queued().saturating_add(reading.half_open())
        } else {
            0
        }
    }

    /// Whether a listener is closed whatever is pending on it.
    fn loses(&self, slot: Slot) -> bool {
        self.listeners.get(&slot).is_some_and(|listener| {
            let place = self.places.get(&listener.endpoint);
            listener.forced || place.is_some_and(|place| place.given_up)
        })
    }

    /// Closes the agent's duplicate, which is the last one if the servers have closed theirs. Out
    /// of the socket array first: nothing selects it, so no grace period is needed.
    pub(crate) fn close(&mut self, slot: Slot, lost: u32) {
        self.put(Effect::Clear { slot });
        if let Some(listener) = self.listeners.remove(&slot) {
            if listener.custody || listener.role == Role::Joining {
                self.put(Effect::Close { slot, lost });
            }
            self.forget_processes();
            self.forget_if_empty(listener.generation);
        }
    }

    /// Keeps a drained listener as the first of its hash bucket.
    pub(crate) fn keep_as_tombstone(&mut self, slot: Slot) {
        let Some(listener) = self.listeners.get_mut(&slot) else {
            return;
        };
        if listener.role == Role::Tombstone {
            return;
        }
        listener.role = Role::Tombstone;
        let generation = listener.generation;
        if let Some(note) = self.note_as(slot, NoteState::Tombstone) {
            self.put(Effect::Note { slot, note });
        }
        self.forget_if_empty(generation);
    }
}
