//! Leaving: a process closes its listeners or dies, and what becomes of them when nobody comes.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, GenerationId, Slot};

use crate::{Departure, Effect, Happened, Listener, Moment, Phase, ProcessId, Role, Service};

impl Service {
    /// A process no longer accepts. Its listeners stay open in the agent's custody.
    pub(crate) fn leave(&mut self, process: ProcessId, how: Departure, now: Moment) {
        for listener in self.listeners.values_mut() {
            listener.lent.remove(&process);
        }
        let Some(known) = self.processes.remove(&process) else {
            return;
        };
        let mut changed = Vec::new();
        for (slot, listener) in &mut self.listeners {
            if listener.holders.remove(&process).is_some() {
                changed.push(*slot);
            }
        }
        changed.into_iter().for_each(|slot| self.note(slot));
        let what = match how {
            Departure::Closed => Happened::Closed,
            Departure::Died => Happened::Died,
        };
        self.record(known.generation, what);
        self.closing_soon(now);
    }

    /// A process that was followed has ended, and others have listeners that only it is known to
    /// hold: nothing changes for those until nobody has them.
    pub(crate) fn outlived(&mut self, process: ProcessId, open: &[Slot], now: Moment) {
        let listeners = self.listeners.iter();
        let its = listeners.filter(|(_, listener)| listener.holders.contains_key(&process));
        let (kept, gone): (Vec<_>, Vec<_>) = its
            .map(|(slot, listener)| (*slot, listener.holders.len()))
            .partition(|(slot, holders)| *holders == 1 && open.contains(slot));
        let Some(generation) = self.processes.get(&process).map(|p| p.generation) else {
            return;
        };
        if kept.is_empty() {
            self.leave(process, Departure::Died, now);
            return;
        }
        for (slot, _) in gone {
            if let Some(listener) = self.listeners.get_mut(&slot) {
                listener.holders.remove(&process);
                self.note(slot);
            }
        }
        let listeners = kept.len();
        self.record(generation, Happened::Outlived { listeners });
        self.closing_soon(now);
    }

    /// Nobody has these listeners any more but the agent, although processes that held them live.
    pub(crate) fn abandoned(&mut self, slots: &[Slot], brought: u64, now: Moment) {
        // Somebody has come with listeners since, maybe with these.
        if brought != self.brought {
            return;
        }
        let mut news: BTreeMap<GenerationId, usize> = BTreeMap::new();
        for slot in slots {
            if let Some(listener) = self.listeners.get_mut(slot)
                && listener.role == Role::Member
                && listener.custody
                && listener.is_held()
            {
                listener.holders.clear();
                *news.entry(listener.generation).or_default() += 1;
                self.note(*slot);
            }
        }
        if news.is_empty() {
            return;
        }
        for (generation, listeners) in news {
            self.record(generation, Happened::Abandoned { listeners });
        }
        self.forget_processes();
        self.closing_soon(now);
    }

    /// A listener does not listen any more, although its process lives, or is closed.
    pub(crate) fn lose(&mut self, slot: Slot) {
        if let Some(listener) = self.listeners.get_mut(&slot)
            && !listener.stopped
        {
            listener.stopped = true;
            listener.holders.clear();
            let in_custody = listener.custody;
            self.forget_processes();
            if in_custody {
                self.note(slot);
            }
        }
    }

    /// Forgets the processes that hold nothing any more and cannot come back.
    pub(crate) fn forget_processes(&mut self) {
        let holders = self.listeners.values().flat_map(|l| l.holders.keys());
        let held: BTreeSet<ProcessId> = holders.copied().collect();
        let joins = &self.joins;
        self.processes.retain(|id, process| {
            process.link == crate::Link::Connected || joins.contains_key(id) || held.contains(id)
        });
    }

    /// Holds the listeners of endpoints that nobody accepts at, until the hold is over.
    ///
    /// Held, they take connections for whoever comes next, however the last process has ended: a
    /// supervisor's restart begins with SIGTERM. It ends at once where nobody is expected, since all
    /// that were there had been told to close, and where somebody who is not registered would take
    /// the connections that wait here for nobody.
    pub(crate) fn hold(&mut self, now: Moment) {
        let endpoints: Vec<EndpointId> = self.places.keys().copied().collect();
        for endpoint in endpoints {
            let mut its: Vec<&Listener> = self
                .listeners
                .values()
                .filter(|listener| listener.endpoint == endpoint)
                .collect();
            // Of tombstones alone, one may have something pending that came past the program.
            let is_tombstone = |listener: &&Listener| listener.role == Role::Tombstone;
            if !its.iter().all(is_tombstone) {
                its.retain(|listener| !is_tombstone(listener));
            }
            // Who has been told to close is nobody to wait for, and if it ends, it has closed.
            let is_over = |listener: &&Listener| {
                let generation = self.generation(listener.generation);
                generation.is_some_and(|generation| generation.phase == Phase::Drained)
            };
            let mut others = its.iter().copied().filter(|listener| !is_over(listener));
            let held = others.any(Listener::is_anybodys);
            let expected = !its
                .iter()
                .filter(|listener| !listener.is_held())
                .all(is_over);
            let none = its.is_empty();
            let changing = self.change.is_some();
            let hold = self.rules.hold;
            let Some(place) = self.places.get_mut(&endpoint) else {
                continue;
            };
            if held || none {
                // If only tombstones are left, no connection can wait: the endpoint is given up.
                (place.unserved_since, place.given_up) = (None, none);
                continue;
            }
            let first = place.unserved_since.is_none();
            let since = *place.unserved_since.get_or_insert(now);
            let over = !expected || place.strangers || now - since >= hold;
            let give_up = over && !changing && !place.given_up;
            if give_up {
                place.given_up = true;
                // Tombstones too have nobody to protect now.
                self.relieved = true;
                self.closing_soon(now);
            }
            if give_up {
                self.note_endpoint(Happened::GivenUp { endpoint });
            } else if first && !over {
                self.note_endpoint(Happened::Held { endpoint });
            }
        }
    }

    /// Listeners that are nobody's have come into an endpoint's reuseport group, or have gone.
    pub(crate) fn strangers(&mut self, endpoint: EndpointId, present: bool, now: Moment) {
        let Some(place) = self.places.get_mut(&endpoint) else {
            return;
        };
        let are_new = present && !place.strangers;
        place.strangers = present;
        if are_new {
            self.note_endpoint(Happened::Strangers { endpoint });
        }
        // Whoever has come may have replaced it, or taken it away.
        self.put_program_back(now);
    }

    fn note_endpoint(&mut self, what: Happened) {
        let generation = None;
        self.put(Effect::Record { generation, what });
    }

    /// Forgets listeners that nobody has: neither a process nor the agent.
    pub(crate) fn sweep(&mut self) {
        let gone: BTreeSet<Slot> = self
            .listeners
            .iter()
            .filter(|(_, listener)| {
                !listener.is_anybodys() && !listener.custody && listener.role != Role::Joining
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.close(slot, 0);
        }
    }

    /// Takes out a generation that has no listeners left, unless the kernel follows it or its
    /// drain is not over.
    pub(crate) fn forget_if_empty(&mut self, id: GenerationId) {
        let drains = self.drains.iter().any(|drain| drain.generation == id);
        let joins = self.joins.values().any(|join| join.generation == id);
        let in_use = self.working == Some(id) || self.flipping_to() == Some(id);
        if in_use || drains || joins || !self.slots_of(id).is_empty() {
            return;
        }
        self.generations.retain(|generation| generation.id != id);
        if self.previous == Some(id) {
            self.previous = None;
        }
    }

    /// Drops the numbers of endpoints that nothing refers to any more.
    pub(crate) fn forget_places(&mut self) {
        let changing = self.change.as_ref().map(|change| &change.table);
        let tables: Vec<_> = self.published.iter().chain(changing).collect();
        let listeners = &self.listeners;
        self.places.retain(|id, _| {
            listeners.values().any(|listener| listener.endpoint == *id)
                || tables.iter().any(|table| !table.slots(id.0).is_empty())
        });
    }
}
