//! Closing what nobody needs any more, without losing a SYN or a request.
//!
//! A lookup walks a hash bucket and takes the first listener that matches; only then does it ask
//! that listener's reuseport group. `reuseport_detach_sock` takes a closing listener out of the
//! group before it leaves the bucket (5.10 to 7.3), so for a moment the *first* of the bucket,
//! and only the first, can be taken as the result itself: its SYN is dropped or answered by a
//! RST. `/proc/net/tcp{,6}` shows the bucket's order.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, GenerationId, Slot};

use crate::{
    Effect, Link, Listener, Moment, NoteState, ProcessId, Reading, Role, Service, drain::Check,
    time::Retry,
};

/// What to do with listeners that are no longer needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Closing<T> {
    /// Close these, in this order.
    close: Vec<T>,
    /// Keep this one as a tombstone: it is the first of its bucket.
    keep: Option<T>,
}

/// Sorts the unneeded listeners of one endpoint into those that may be closed and the one that
/// has to stay.
///
/// `bucket` has the endpoint's listeners that this agent holds, in the bucket's order; listeners
/// of others may stand between them but cannot be relied on. One that is `unneeded` but not in
/// the bucket has left it already (it was shut down) and may be closed. When every listener of
/// the endpoint is unneeded nothing is left to protect, and all may be closed.
fn close_order<T: Copy + PartialEq>(bucket: &[T], unneeded: &[T]) -> Closing<T> {
    let is_unneeded = |slot: &T| unneeded.contains(slot);
    let somebody_stays = bucket.iter().any(|slot| !is_unneeded(slot));
    let keep = bucket
        .first()
        .copied()
        .filter(|first| somebody_stays && is_unneeded(first));
    let gone = unneeded
        .iter()
        .copied()
        .filter(|slot| !bucket.contains(slot));
    // From the back, so that what is in front of each protects it to the last.
    let present = bucket.iter().rev().copied().filter(is_unneeded);
    Closing {
        close: gone
            .chain(present)
            .filter(|slot| Some(*slot) != keep)
            .collect(),
        keep,
    }
}

/// A look at listeners that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// The drains that it is for, and whether nothing pending ends them.
    pub(crate) drains: BTreeMap<GenerationId, bool>,
    /// The listeners that were unneeded when it began. One that has become so since may have been
    /// read before the last connection came to it.
    closing: BTreeSet<Slot>,
    /// Whether what is empty in it may have had connections come to it meanwhile.
    is_void: bool,
}

impl Look {
    /// Closes or lends nothing by what it shows of a listener.
    pub(crate) fn leave_out(&mut self, slot: Slot) {
        self.closing.remove(&slot);
    }
}

impl Service {
    /// Has listeners looked at soon that may be closed.
    pub(crate) fn closing_soon(&mut self, now: Moment) {
        if let Some(retry) = &mut self.closing {
            retry.soon(now);
        }
    }

    /// The program may have been off the groups during the look that is under way: that something
    /// was empty in it means nothing.
    pub(crate) fn void_look(&mut self) {
        if let Some(look) = &mut self.looking {
            look.is_void = true;
        }
    }

    /// Puts the program on the groups again, and looks at what has come past it meanwhile.
    pub(crate) fn put_program_back(&mut self, now: Moment) {
        self.void_look();
        self.put(Effect::Attach { join: None });
        self.put(Effect::Barrier);
        self.relieved = true;
        self.closing_soon(now);
        self.drains
            .iter_mut()
            .for_each(|drain| drain.retry.soon(now));
    }

    /// The listeners that nobody accepts from and that no table mentions, now or in a moment.
    fn unneeded(&self) -> BTreeSet<Slot> {
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

    /// Begins a look at what drains, and at what may be closed, if one is due.
    pub(crate) fn look(&mut self, now: Moment) {
        let unneeded = self.unneeded();
        // A tombstone stays as long as there is something to protect.
        let protects = |tombstone: &Listener| {
            let mut listeners = self.listeners.iter();
            listeners.any(|(slot, l)| l.endpoint == tombstone.endpoint && !unneeded.contains(slot))
        };
        let news = unneeded.iter().any(|slot| {
            let listener = &self.listeners[slot];
            listener.role != Role::Tombstone || !protects(listener)
        });
        let relieved = self.relieved && !unneeded.is_empty();
        let looking = self.looking.as_ref();
        if news || relieved {
            self.closing.get_or_insert_with(|| Retry::now(now));
        } else if looking.is_none_or(|look| look.closing.is_empty()) {
            self.closing = None;
            self.relieved = false;
        }
        let is_absent = |id: &ProcessId| {
            self.processes
                .get(id)
                .is_some_and(|process| process.link == Link::Absent)
        };
        let absent: BTreeSet<Slot> = self
            .listeners
            .iter()
            .filter(|(_, l)| !l.custody && l.role != Role::Joining)
            .filter(|(_, l)| !l.is_held() || l.holders.keys().any(is_absent))
            .map(|(slot, _)| *slot)
            .collect();
        if absent.is_empty() {
            self.absent = None;
        } else {
            self.absent.get_or_insert_with(|| {
                let mut retry = Retry::now(now);
                retry.later(now, self.rules.absent);
                retry
            });
        }
        if self.looking.is_some() {
            return;
        }
        let close = self.change.is_none() && self.closing.is_some_and(|retry| retry.is_due(now));
        let due_drains = self
            .drains
            .iter()
            .filter(|drain| drain.retry.is_due(now) && !self.is_mentioned(drain.generation));
        let drains: BTreeMap<GenerationId, Check> = due_drains
            .map(|drain| (drain.generation, drain.check))
            .collect();
        let find_absent = self.absent.is_some_and(|retry| retry.is_due(now));
        if !close && drains.is_empty() && !find_absent {
            return;
        }
        let mut slots: BTreeSet<Slot> = drains.keys().flat_map(|id| self.slots_of(*id)).collect();
        if close {
            // A listener that registers from here on is not in this look: it asks for another one.
            self.relieved = false;
            if let Some(retry) = &mut self.closing {
                retry.later(now, self.rules.closing);
            }
            // The others show the order of the bucket.
            let held = self
                .listeners
                .iter()
                .filter(|(_, listener)| listener.custody);
            slots.extend(held.map(|(slot, _)| *slot));
        }
        if find_absent {
            slots.extend(absent);
            if let Some(retry) = &mut self.absent {
                retry.later(now, self.rules.absent);
            }
        }
        if drains.values().any(|check| *check == Check::Attach) {
            self.put(Effect::Attach { join: None });
            self.put(Effect::Barrier);
        }
        self.looking = Some(Look {
            drains: drains
                .into_iter()
                .map(|(id, check)| (id, check != Check::None))
                .collect(),
            closing: if close { unneeded } else { BTreeSet::new() },
            // The kernel has refused the program: it may be off.
            is_void: self.attach.is_some(),
        });
        self.put(Effect::Read {
            slots: slots.into_iter().collect(),
        });
    }

    /// Takes notice of what a look has shown.
    pub(crate) fn read(&mut self, readings: &[(Slot, Reading)], now: Moment) {
        let Some(look) = self.looking.take() else {
            return;
        };
        let by_slot: BTreeMap<Slot, Reading> = readings.iter().copied().collect();
        for (slot, reading) in readings {
            if matches!(reading, Reading::Gone | Reading::Stopped) {
                self.lose(*slot);
            }
        }
        for (id, conclusive) in look.drains {
            self.drain_read(id, conclusive && !look.is_void, &by_slot, now);
        }
        if look.is_void {
            self.relieved = true;
            let pace = self.rules.drain;
            let drains = self.drains.iter_mut();
            drains.for_each(|drain| drain.retry.later(now, pace));
            if let Some(retry) = &mut self.closing {
                retry.later(now, self.rules.closing);
            }
        } else if !look.closing.is_empty() {
            self.close_unneeded(&look.closing, readings);
        }
    }

    /// Closes listeners as far as that is safe.
    ///
    /// One that has something queued is lent to the working generation. Only for servers that
    /// cannot be lent anything the kernel is left to move the queue when the listener is closed: a
    /// handshake that ends during the close can be lost, and nothing moves while anybody else
    /// still holds the listener open. Where it does not move it, or not yet, the connections are
    /// relayed. A listener goes when nothing is left and nobody has it, but never the first of its
    /// hash bucket ([`close_order`]), which stays as a tombstone.
    fn close_unneeded(&mut self, looked_at: &BTreeSet<Slot>, readings: &[(Slot, Reading)]) {
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
                let lost = match reading(slot) {
                    Reading::Pending(left) if self.loses(slot) => left.refcnt.saturating_sub(1),
                    _ => 0,
                };
                self.close(slot, lost);
            }
            match closing.keep {
                Some(slot) if reading(slot).is_empty() => self.bury(slot),
                // What is pending on it is given up: it cannot wait there for ever.
                Some(slot) if self.loses(slot) => {
                    let lost = match reading(slot) {
                        Reading::Pending(left) => left.refcnt.saturating_sub(1),
                        _ => 0,
                    };
                    self.close(slot, lost);
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

    /// Whether a listener is closed whatever is pending on it.
    fn loses(&self, slot: Slot) -> bool {
        self.listeners.get(&slot).is_some_and(|listener| {
            let place = self.places.get(&listener.endpoint);
            listener.forced || place.is_some_and(|place| place.given_up)
        })
    }

    /// The processes that connections to a listener's address go to, ready and not absent.
    fn accepting_beside(&self, slot: Slot, link: impl Fn(Link) -> bool) -> Vec<ProcessId> {
        let endpoint = self.listeners.get(&slot).map(|listener| listener.endpoint);
        let table = self.published.as_ref().zip(endpoint);
        let slots = table
            .map(|(table, endpoint)| table.slots(endpoint.0))
            .unwrap_or_default();
        let listeners = slots
            .iter()
            .filter_map(|slot| self.listeners.get(&Slot(*slot)));
        let holders = listeners
            .filter(|l| l.accepts())
            .flat_map(|listener| &listener.holders);
        let ready = holders.filter(|(_, ready)| **ready).map(|(id, _)| *id);
        let known = ready.filter(|id| self.processes.get(id).is_some_and(|p| link(p.link)));
        let all: BTreeSet<ProcessId> = known.collect();
        all.into_iter().collect()
    }

    /// Who can be lent a listener.
    fn takers(&self, slot: Slot) -> Vec<ProcessId> {
        self.accepting_beside(slot, |link| link == Link::Connected)
    }

    /// Whether somebody accepts connections to a listener's address.
    fn is_accepted_beside(&self, slot: Slot) -> bool {
        !self.accepting_beside(slot, |_| true).is_empty()
    }

    /// Has what is queued on a listener be accepted by somebody.
    fn hand_over(&mut self, slot: Slot, reading: Reading) {
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
                .accepting_beside(slot, |link| link == Link::Adopted)
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
    pub(crate) fn bury(&mut self, slot: Slot) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_the_bucket_stays() {
        // IPv6 after a flip forward: the old generation, 1 and 2, is in front.
        let closing = close_order(&[1, 2, 3, 4], &[1, 2]);
        assert_eq!(
            closing,
            Closing {
                close: vec![2],
                keep: Some(1)
            }
        );
        // IPv4 after a flip forward: the new generation is in front.
        let closing = close_order(&[4, 3, 2, 1], &[1, 2]);
        assert_eq!(
            closing,
            Closing {
                close: vec![1, 2],
                keep: None
            }
        );
        // The next generation has come: on IPv4 it relieves the tombstone.
        assert_eq!(
            close_order(&[5, 4, 1], &[4]),
            Closing {
                close: vec![4],
                keep: None
            }
        );
    }

    #[test]
    fn the_last_of_a_service_all_go() {
        assert_eq!(
            close_order(&[1, 2], &[1, 2]),
            Closing {
                close: vec![2, 1],
                keep: None
            }
        );
        assert_eq!(
            close_order(&[2], &[1]),
            Closing {
                close: vec![1],
                keep: None
            }
        );
    }

    proptest! {
        #[test]
        fn no_close_ever_hits_the_first_while_one_is_needed(
            size in 0u32..12, needed in any::<u16>(), shut in any::<u16>(),
        ) {
            let has = |mask: u16, slot: u32| mask >> slot & 1 == 1;
            let unneeded: Vec<_> = (0..size).filter(|slot| !has(needed, *slot)).collect();
            let mut bucket: Vec<_> = (0..size)
                .filter(|slot| has(needed, *slot) || !has(shut, *slot)).collect();
            let protect = bucket.iter().any(|slot| !unneeded.contains(slot));
            let closing = close_order(&bucket, &unneeded);
            for slot in &closing.close {
                prop_assert!(unneeded.contains(slot));
                if protect {
                    prop_assert_ne!(bucket.first(), Some(slot));
                }
                bucket.retain(|other| other != slot);
            }
            let left = unneeded.iter().filter(|slot| !closing.close.contains(slot));
            prop_assert_eq!(left.copied().collect::<Vec<_>>(), Vec::from_iter(closing.keep));
        }
    }
}
