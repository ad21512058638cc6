//! Taking up a service that an earlier agent has left in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{Epoch, GenerationId, Slot};

use crate::{
    Effect, Generation, Link, Listener, Moment, Note, NoteState, Phase, Process, ProcessId, Role,
    Rules, Service, Table,
    drain::{Check, Drain},
    service::Place,
};

/// A listener as the earlier agent has noted it, and which is still open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inherited {
    /// Its slot.
    pub slot: Slot,
    /// The note. Its process is none if it has certainly ended.
    pub note: Note,
    /// Whether that process is known to live.
    pub lives: bool,
    /// Whether systemd has kept a descriptor of it for this agent.
    pub kept: bool,
}

impl Service {
    /// A service as the kernel has it: the published table, and the listeners that are open; with
    /// it what is to be done first.
    ///
    /// Nothing changes for new connections. The generation that the table names works, those that
    /// were flipped away from drain, others are what they said. Processes that are known to live
    /// hold their listeners as before; of others it is assumed until the contrary is seen.
    pub fn recovered(
        rules: Rules,
        published: Option<Table>,
        left: &[Inherited],
        now: Moment,
    ) -> (Self, Vec<Effect>) {
        let mut service = Self::new(rules);
        if let Some(table) = published.filter(|table| !table.is_empty()) {
            service.working = Some(table.generation());
            // No other generation gets its number, even if none of its listeners is left.
            service.last_id = table.generation().0;
            service.epoch = Epoch(table.epoch());
            service.published = Some(table);
        }
        for listener in left {
            service.take_over(listener, now);
        }
        service.generations.sort_by_key(|generation| generation.id);
        // The generation of a tombstone may not be there any more: only those that are count.
        let (working, epoch) = (service.working, service.epoch);
        let was_left_last = |generation: &&Generation| {
            Some(generation.id) != working
                && matches!(
                    generation.departure,
                    Some(NoteState::Kept(at) | NoteState::Leaving(at)) if at == low(epoch)
                )
        };
        let previous = service.generations.iter().find(was_left_last);
        service.previous = previous.map(|generation| generation.id);
        service.find_dropped();
        service.resume(left, now);
        let effects = service.on(crate::Input::Time, now);
        (service, effects)
    }

    fn take_over(&mut self, left: &Inherited, now: Moment) {
        let Inherited {
            slot,
            note,
            lives,
            kept,
        } = left;
        self.places.insert(
            note.endpoint,
            Place {
                address: note.address,
                unserved_since: None,
                given_up: false,
                dropped: false,
                strangers: false,
            },
        );
        self.last_id = self.last_id.max(note.generation.0);
        let tombstone = note.state == NoteState::Tombstone;
        let departure = match note.state {
            NoteState::Kept(_) | NoteState::Leaving(_) => Some(note.state),
            NoteState::Registered | NoteState::Tombstone => None,
        };
        let phase = match self.working {
            Some(working) if note.generation == working => Phase::Working,
            // It was retired: its servers have been told to close, or will be.
            Some(_) if note.state == NoteState::Leaving(Epoch(0)) => Phase::Drained,
            Some(_) if departure.is_some() => Phase::Draining,
            _ if note.ready => Phase::Ready,
            _ => Phase::Registered,
        };
        // A table is published after the note that its listeners are ready, and names no others.
        let published = self.published.as_ref();
        let ready = note.ready
            || published.is_some_and(|table| table.all_slots().any(|named| Slot(named) == *slot));
        let mut holders = BTreeMap::new();
        if let Some(process) = note.process.filter(|_| !tombstone) {
            holders.insert(process, ready);
            let link = if note.adopted && *lives {
                Link::Adopted
            } else {
                Link::Absent
            };
            let generation = note.generation;
            let patience = if *lives {
                self.rules.returns
            } else {
                self.rules.hold
            };
            let expected_until = (link == Link::Absent).then(|| now + patience);
            self.processes.insert(
                process,
                Process {
                    generation,
                    link,
                    expected_until,
                    clients: 0,
                    lives: *lives,
                },
            );
        }
        self.listeners.insert(
            *slot,
            Listener {
                endpoint: note.endpoint,
                cookie: note.cookie,
                generation: note.generation,
                holders,
                custody: *kept,
                role: if tombstone {
                    Role::Tombstone
                } else {
                    Role::Member
                },
                stopped: false,
                stuck: None,
                probes: 0,
                forced: false,
                lent: BTreeSet::new(),
            },
        );
        if tombstone {
            return;
        }
        match self.generation_mut(note.generation) {
            Some(generation) => {
                // The notes of its listeners may differ: one that joined late may have been noted before
                // the generation was ready, or was flipped away from.
                if phase == Phase::Drained {
                    (generation.phase, generation.departure) = (phase, departure);
                } else if generation.phase == Phase::Drained {
                    return;
                }
                if phase == Phase::Draining
                    || (phase == Phase::Ready && generation.phase == Phase::Registered)
                {
                    generation.phase = phase;
                }
                if phase != Phase::Working {
                    generation.departure = generation.departure.or(departure);
                }
            }
            None => self.generations.push(Generation {
                id: note.generation,
                name: note.name.clone(),
                phase,
                departure: departure.filter(|_| phase != Phase::Working),
            }),
        }
    }

    /// Treats processes that have not come back in time as adopted if they are known to live. One
    /// of which nothing is known has had the hold time; what the agent holds of it is nobody's.
    pub(crate) fn expect_no_longer(&mut self, now: Moment) {
        let mut late = Vec::new();
        for (id, process) in &mut self.processes {
            let expected = process.expected_until.take_if(|until| *until <= now);
            if expected.is_none() {
                continue;
            }
            if process.lives {
                process.link = Link::Adopted;
            }
            late.push((*id, process.lives));
        }
        for (id, _) in late.extract_if(.., |(_, lives)| !*lives) {
            let in_custody = self
                .listeners
                .values_mut()
                .filter(|listener| listener.custody);
            for listener in in_custody {
                listener.holders.remove(&id);
            }
            self.forget_processes();
            self.closing_soon(now);
        }
        let late: Vec<ProcessId> = late.into_iter().map(|(id, _)| id).collect();
        let holds = |listener: &Listener| late.iter().any(|id| listener.holders.contains_key(id));
        let slots: Vec<Slot> = self
            .listeners
            .iter()
            .filter(|(_, listener)| holds(listener))
            .map(|(slot, _)| *slot)
            .collect();
        if !slots.is_empty() {
            slots.iter().for_each(|slot| self.note(*slot));
            self.closing_soon(now);
        }
    }

    /// An endpoint that only generations have which were flipped away from would be in the published
    /// table, had it not been dropped.
    fn find_dropped(&mut self) {
        let Some(table) = &self.published else {
            return;
        };
        for (endpoint, place) in &mut self.places {
            let mut its = self.listeners.values().filter(|l| l.endpoint == *endpoint);
            place.dropped = table.slots(endpoint.0).is_empty()
                && its.all(|listener| {
                    let mut generations = self.generations.iter();
                    let its = generations.find(|g| g.id == listener.generation);
                    its.is_some_and(|generation| generation.departure.is_some())
                });
        }
    }

    /// Takes custody of what lives, and goes on with what drains.
    fn resume(&mut self, left: &[Inherited], now: Moment) {
        for Inherited {
            slot,
            lives,
            kept,
            note,
        } in left
        {
            match note.process {
                Some(from) if *lives && !kept => self.put(Effect::Fetch { slot: *slot, from }),
                _ => {}
            }
        }
        if left.iter().any(|listener| listener.kept) {
            self.put(Effect::Attach { join: None });
            let kept = left
                .iter()
                .filter(|l| l.kept && l.note.state != NoteState::Tombstone);
            let slots: Vec<Slot> = kept.map(|listener| listener.slot).collect();
            self.prepare(&slots);
        }
        // The earlier agent may have died between publishing a table and its grace period.
        if self.published.is_some() {
            self.put(Effect::Barrier);
        }
        self.relieved = true;
        let draining = self
            .generations
            .iter()
            .filter(|g| g.phase == Phase::Draining);
        let drains: Vec<(GenerationId, bool)> = draining
            .map(|g| (g.id, matches!(g.departure, Some(NoteState::Kept(_)))))
            .collect();
        for (id, keep) in drains {
            let drain = Drain::new(id, keep, None, Check::Attach, now);
            self.drains.push(drain);
        }
    }
}

/// The half of an epoch that is noted.
fn low(epoch: Epoch) -> Epoch {
    Epoch(epoch.0 & 0xffff_ffff)
}
