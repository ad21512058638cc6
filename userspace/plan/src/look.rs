//! Looks: what is read of the listeners, when, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, GenerationId, Slot};

use crate::{
    Effect, Happened, Link, Moment, ProcessId, Reading, Role, Service, drain::Check, time::Retry,
};

/// A look at listeners that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// The drains that it is for, and whether nothing pending ends them.
    pub(crate) drains: BTreeMap<GenerationId, bool>,
    /// The listeners that were unneeded when it began. One that has become so since may have been
    /// read before the last connection came to it.
    pub(crate) closing: BTreeSet<Slot>,
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

    /// The program was seen to be off a group, or another one in its place.
    pub(crate) fn program_gone(&mut self, now: Moment) {
        // If a registration puts it on, it is on its way; and if it was refused, it is tried again.
        if self.joins.is_empty() && self.attach.is_none() {
            if let Some(working) = self.working {
                self.record(working, Happened::ProgramGone);
            }
            self.put_program_back(now);
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

    /// Begins a look at what drains, and at what may be closed, if one is due.
    pub(crate) fn look(&mut self, now: Moment) {
        let unneeded = self.unneeded();
        // A tombstone stays as long as there is something to protect.
        let needed = self.listeners.iter();
        let needed = needed.filter(|(slot, _)| !unneeded.contains(*slot));
        let protected: BTreeSet<EndpointId> = needed.map(|(_, l)| l.endpoint).collect();
        let news = unneeded.iter().any(|slot| {
            let listener = &self.listeners[slot];
            listener.role != Role::Tombstone || !protected.contains(&listener.endpoint)
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
        let stuck = self.stuck_to_ask();
        if stuck.is_empty() {
            self.stuck = None;
        } else {
            self.stuck.get_or_insert_with(|| Retry::now(now));
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
        let see_stuck = self.stuck.is_some_and(|retry| retry.is_due(now));
        if !close && drains.is_empty() && !find_absent && !see_stuck {
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
        if see_stuck {
            slots.extend(stuck);
            if let Some(retry) = &mut self.stuck {
                retry.later(now, self.rules.stuck);
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
            // One whose registration is not over may have come into the slot after it was read.
            let listener = self.listeners.get(slot);
            let is_joining = listener.is_some_and(|listener| listener.role == Role::Joining);
            if matches!(reading, Reading::Gone | Reading::Stopped) && !is_joining {
                self.lose(*slot);
            }
        }
        self.look_at_stuck(&by_slot);
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
}
