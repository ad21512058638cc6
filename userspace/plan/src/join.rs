//! Joining: from a process's listeners to members of a generation.
//!
//! A listener is put into its slot and noted, then the program is put on its reuseport group; only
//! when all of a registration's listeners are in place is the process told, and only then may any
//! table name them.

use std::collections::{BTreeMap, BTreeSet};

use synflip_abi::MAX_ENDPOINTS;
use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{
    Answer, Asker, Departure, Effect, Event, Generation, Happened, Join, Link, Listener, Moment,
    NoteState, Phase, PlanError, Process, ProcessId, Role, Service, service::Place, time::Retry,
};

/// A registration that is being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Joining {
    answer: Asker,
    pub(crate) generation: GenerationId,
    new: Vec<Slot>,
    known: Vec<Slot>,
    /// Those of the known ones that the process did not hold before.
    taken_up: Vec<Slot>,
    refused: Option<String>,
}

impl Service {
    pub(crate) fn join(&mut self, join: Join, now: Moment) {
        let asker = join.answer;
        if let Err(error) = self.try_join(join, now) {
            self.refuse(asker, error);
        }
    }

    /// The process joins a generation. Without a name it founds one of its own.
    ///
    /// Listeners that are known are taken up again where they are, whatever has become of their
    /// generation meanwhile; several processes of one generation may hold the same listener.
    fn try_join(&mut self, join: Join, now: Moment) -> Result<(), PlanError> {
        let Join {
            by,
            answer,
            name,
            listeners,
            talks,
        } = join;
        if name.as_ref().is_some_and(|name| name.as_str() == "latest") {
            return Err(PlanError::ReservedName);
        }
        if self.joins.contains_key(&by.process) {
            return Err(PlanError::JoinInProgress);
        }
        let returning = self.returning(&listeners, name.as_ref(), by.process)?;
        let named = name
            .as_ref()
            .and_then(|name| self.generations.iter().find(|g| g.name == *name));
        if let Some(generation) = named
            && returning != Some(generation.id)
            && matches!(
                generation.phase,
                Phase::Draining | Phase::Standby | Phase::Drained
            )
        {
            return Err(PlanError::GenerationClosed {
                name: generation.name.to_string(),
                phase: generation.phase,
            });
        }
        let target = returning.or_else(|| named.map(|generation| generation.id));
        if let Some(other) = self.generation_held_by(by.process)
            && target != Some(other.id)
        {
            return Err(PlanError::OneGeneration {
                name: other.name.to_string(),
            });
        }
        let founds = returning.is_none() && named.is_none();
        if founds && self.generations.len() >= self.rules.generations {
            return Err(PlanError::TooManyGenerations {
                most: self.rules.generations,
            });
        }
        let endpoints = self.endpoints_with(&listeners)?;
        let free = self.free_slots();
        let new = listeners
            .iter()
            .filter(|(_, cookie)| self.slot_of(*cookie).is_none());
        if new.count() > free.len() {
            return Err(PlanError::TooManyListeners { free: free.len() });
        }

        let generation = match (returning, named) {
            (Some(id), _) => id,
            (None, Some(generation)) => generation.id,
            (None, None) => self.found(name),
        };
        for (address, id) in &endpoints {
            self.places.entry(*id).or_insert_with(|| Place {
                address: *address,
                unserved_since: None,
                given_up: false,
                strangers: false,
            });
        }
        let mut joining = Joining {
            answer,
            generation,
            new: Vec::new(),
            known: Vec::new(),
            taken_up: Vec::new(),
            refused: None,
        };
        let link = if talks {
            Link::Connected
        } else {
            Link::Adopted
        };
        self.processes.insert(
            by.process,
            Process {
                generation,
                link,
                lives: true,
                expected_until: None,
            },
        );
        // As long as this is in `joins`, neither the process nor the generation is removed.
        self.joins.insert(by.process, joining.clone());
        for (_, cookie) in &listeners {
            if self.slot_of(*cookie).is_none() {
                self.leave_old_slot(*cookie);
            }
        }
        let mut free = free.into_iter();
        for (address, cookie) in listeners {
            if let Some(slot) = self.slot_of(cookie) {
                if self.take_up(slot, by.process) {
                    joining.taken_up.push(slot);
                }
                joining.known.push(slot);
                // What the kernel has refused for a process that shares it is refused for all.
                let mut others = self.joins.values();
                let other = others.find(|other| other.new.contains(&slot));
                let refused = other.and_then(|other| other.refused.clone());
                joining.refused = joining.refused.or(refused);
                continue;
            }
            // Both were made sure of above.
            let (Some(endpoint), Some(slot)) = (endpoints.get(&address), free.next()) else {
                continue;
            };
            let listener = Listener {
                endpoint: *endpoint,
                cookie,
                generation,
                holders: BTreeMap::from([(by.process, false)]),
                left: None,
                custody: false,
                role: Role::Joining,
                stopped: false,
                stuck: false,
                forced: false,
                lent: BTreeSet::new(),
            };
            self.listeners.insert(slot, listener);
            self.put(Effect::Fill { slot, cookie });
            self.note(slot);
            joining.new.push(slot);
        }
        self.put(Effect::Attach {
            join: Some(by.process),
        });
        self.joins.insert(by.process, joining);
        self.closing_soon(now);
        Ok(())
    }

    /// The generation of the known ones among listeners that a process comes with.
    fn returning(
        &self,
        listeners: &[(Endpoint, Cookie)],
        name: Option<&Name>,
        process: ProcessId,
    ) -> Result<Option<GenerationId>, PlanError> {
        let mut returning = None;
        for (address, cookie) in listeners {
            let Some(listener) = self
                .slot_of(*cookie)
                .and_then(|slot| self.listeners.get(&slot))
            else {
                continue;
            };
            let generation = self.generation(listener.generation);
            let elsewhere =
                |generation: &&Generation| name.is_some_and(|name| *name != generation.name);
            let by_others = listener.holders.keys().any(|holder| {
                let link = self.processes.get(holder).map(|holder| holder.link);
                *holder != process && link != Some(Link::Absent)
            });
            if by_others && let Some(generation) = generation.filter(elsewhere) {
                return Err(PlanError::RegisteredAlready {
                    address: address.address(),
                    generation: generation.name.to_string(),
                });
            }
            if returning.is_some_and(|other| other != listener.generation) {
                return Err(PlanError::OfTwoGenerations {
                    address: address.address(),
                });
            }
            returning = Some(listener.generation);
        }
        Ok(returning)
    }

    /// The generation of the listeners that a process holds.
    fn generation_held_by(&self, process: ProcessId) -> Option<&Generation> {
        let mut listeners = self.listeners.values();
        let its = listeners.find(|listener| listener.holders.contains_key(&process))?;
        self.generation(its.generation)
    }

    /// The numbers of the endpoints that listeners are bound to, new ones included.
    fn endpoints_with(
        &self,
        listeners: &[(Endpoint, Cookie)],
    ) -> Result<BTreeMap<Endpoint, EndpointId>, PlanError> {
        let known = self.places.iter().map(|(id, place)| (place.address, *id));
        let mut all: BTreeMap<Endpoint, EndpointId> = known.collect();
        for (address, _) in listeners {
            if all.contains_key(address) {
                continue;
            }
            let taken = |id: &EndpointId| all.values().any(|other| other == id);
            let free = (0..MAX_ENDPOINTS).map(EndpointId).find(|id| !taken(id));
            all.insert(*address, free.ok_or(PlanError::TooManyEndpoints)?);
        }
        Ok(all)
    }

    fn free_slots(&self) -> Vec<Slot> {
        let mentioned = self.mentioned();
        let slots = (0..self.rules.slots).map(Slot);
        slots
            .filter(|slot| !self.listeners.contains_key(slot) && !mentioned.contains(slot))
            .collect()
    }

    /// The slot of a listener that is its generation's, and listens.
    pub(crate) fn slot_of(&self, cookie: Cookie) -> Option<Slot> {
        let mut listeners = self.listeners.iter();
        let found = listeners.find(|(_, listener)| {
            listener.cookie == cookie && listener.role != Role::Tombstone && !listener.stopped
        });
        found.map(|(slot, _)| *slot)
    }

    /// Gives a known listener to a process, which has come back to it or shares it with others;
    /// false if it has it already.
    fn take_up(&mut self, slot: Slot, process: ProcessId) -> bool {
        let Some(listener) = self.listeners.get_mut(&slot) else {
            return false;
        };
        let processes = &self.processes;
        let absent = |id: &ProcessId| {
            processes
                .get(id)
                .is_none_or(|holder| holder.link == Link::Absent)
        };
        // It accepts as it did: new connections must not go elsewhere until it says so again.
        let ready = listener
            .holders
            .iter()
            .any(|(holder, ready)| absent(holder) && *ready);
        listener.holders.retain(|holder, _| !absent(holder));
        let is_new = !listener.holders.contains_key(&process);
        let known = listener.holders.entry(process).or_insert(false);
        *known |= ready;
        (listener.left, listener.custody) = (None, true);
        let cookie = listener.cookie;
        self.put(Effect::Keep { slot, cookie });
        self.note(slot);
        self.forget_processes();
        is_new
    }

    /// Takes a tombstone, or a listener that was shut down, out of its slot: its server has come
    /// back to it, and the kernel has a listener in one slot only. The server's own descriptor
    /// keeps it where it is in its bucket.
    fn leave_old_slot(&mut self, cookie: Cookie) {
        let mut listeners = self.listeners.iter();
        let old = listeners.find(|(_, listener)| listener.cookie == cookie);
        if let Some(slot) = old.map(|(slot, _)| *slot) {
            self.close(slot, 0);
        }
    }

    /// Adds an empty generation.
    fn found(&mut self, name: Option<Name>) -> GenerationId {
        self.last_id += 1;
        let id = GenerationId(self.last_id);
        let name = name.unwrap_or_else(|| self.unused_name());
        self.generations.push(Generation {
            id,
            name,
            phase: Phase::Registered,
            departure: None,
        });
        id
    }

    fn unused_name(&self) -> Name {
        let taken = |name: &Name| self.generations.iter().any(|g| g.name == *name);
        (self.last_id..)
            .filter_map(|number| format!("gen{number}").parse().ok())
            .find(|name| !taken(name))
            .expect("there are fewer generations than numbers")
    }

    /// The kernel has not taken a listener: its registration is refused when all has been tried.
    pub(crate) fn not_filled(&mut self, slot: Slot, why: &str) {
        for join in self.joins.values_mut() {
            if join.new.contains(&slot) || join.known.contains(&slot) {
                join.refused.get_or_insert_with(|| why.to_owned());
            }
        }
    }

    /// The program is on the groups: what was registered before is in place.
    pub(crate) fn attached(
        &mut self,
        join: Option<ProcessId>,
        result: Result<(), String>,
        now: Moment,
    ) {
        let Some(process) = join else {
            if result.is_err() {
                self.void_look();
                let mut retry = self.attach.unwrap_or_else(|| Retry::now(now));
                retry.later(now, self.rules.publish);
                self.attach = Some(retry);
            } else {
                self.attach = None;
            }
            return;
        };
        let Some(joining) = self.joins.remove(&process) else {
            return;
        };
        match joining.refused.clone().map_or(result, Err) {
            Ok(()) => self.joined(process, &joining, now),
            Err(why) => {
                self.undo(process, &joining);
                self.refuse(joining.answer, PlanError::Kernel { why });
                self.forget_if_empty(joining.generation);
                self.closing_soon(now);
            }
        }
    }

    /// Takes back a registration that has failed: the process has what it had before.
    fn undo(&mut self, process: ProcessId, joining: &Joining) {
        for slot in &joining.new {
            let Some(listener) = self.listeners.get_mut(slot) else {
                continue;
            };
            let has_died = listener.holders.remove(&process).is_none();
            let mut joins = self.joins.values_mut();
            if let Some(other) = joins.find(|other| other.known.contains(slot)) {
                // Another process is registering the same listener: it is that one's now.
                other.known.retain(|known| known != slot);
                other.taken_up.retain(|known| known != slot);
                other.new.push(*slot);
            } else if listener.is_held() {
                self.note(*slot);
            } else if has_died {
                // The agent's duplicate is the last one: `closing` decides when it can be closed.
                (listener.role, listener.custody) = (Role::Member, true);
            } else {
                self.close(*slot, 0);
            }
        }
        for slot in &joining.taken_up {
            if let Some(listener) = self.listeners.get_mut(slot)
                && listener.holders.remove(&process).is_some()
            {
                if listener.holders.is_empty() {
                    listener.left = Some(Departure::Died);
                }
                self.note(*slot);
            }
        }
        let mut listeners = self.listeners.values();
        if !listeners.any(|listener| listener.holders.contains_key(&process)) {
            self.processes.remove(&process);
        }
    }

    fn joined(&mut self, process: ProcessId, joining: &Joining, now: Moment) {
        let generation = joining.generation;
        let both = joining.new.iter().chain(&joining.known).copied();
        // If the process has died meanwhile, those that were known may have been closed since.
        let all: Vec<Slot> = both
            .filter(|slot| self.listeners.contains_key(slot))
            .collect();
        for slot in &all {
            if let Some(listener) = self.listeners.get_mut(slot)
                && listener.role == Role::Joining
            {
                (listener.role, listener.custody) = (Role::Member, true);
            }
            self.put(Effect::Store { slot: *slot });
        }
        self.relieved = true;
        let listeners = all.len();
        if joining.known.is_empty() {
            self.record(generation, Happened::Registered { listeners });
        } else {
            self.record(generation, Happened::Back { listeners });
            self.prepare(&all);
        }
        let Some(name) = self.generation(generation).map(|g| g.name.clone()) else {
            return;
        };
        let answer = Answer::Registered { generation: name };
        match self.processes.get(&process).map(|process| process.link) {
            // Answered when nothing is being published: if this was the first generation, it works then.
            Some(Link::Adopted) => {
                self.make_ready(process);
                self.answers.push((joining.answer, answer));
            }
            _ => self.answer(joining.answer, answer),
        }
        let talks = self
            .processes
            .get(&process)
            .is_some_and(|process| process.link == Link::Connected);
        if talks
            && !joining.known.is_empty()
            && let Some(event) = self.what_happened_to(generation)
        {
            self.put(Effect::Tell { to: process, event });
        }
        self.forget_if_empty(generation);
        self.closing_soon(now);
    }

    /// What a process that has come back has missed.
    fn what_happened_to(&self, generation: GenerationId) -> Option<Event> {
        // It is being flipped back to, and will be told so.
        if self.is_mentioned(generation) && self.working != Some(generation) {
            return None;
        }
        match self.generation(generation)?.phase {
            Phase::Working => Some(Event::Working),
            Phase::Draining => Some(Event::Draining),
            Phase::Standby => Some(Event::Standby),
            // If it was retired, something may be pending on it still: it is told so, not `drained`.
            Phase::Drained => match self.generation(generation)?.departure {
                Some(NoteState::Leaving(Epoch(0))) => Some(Event::Retired),
                _ => Some(Event::Drained),
            },
            Phase::Registered | Phase::Ready => None,
        }
    }

    /// A process accepts connections now.
    pub(crate) fn ready(&mut self, by: Asker) {
        if self.processes.contains_key(&by.process) {
            self.make_ready(by.process);
            self.answer(by, Answer::Done);
        } else {
            self.refuse(by, PlanError::NotMember);
        }
    }

    fn make_ready(&mut self, process: ProcessId) {
        let Some(generation) = self
            .processes
            .get(&process)
            .map(|process| process.generation)
        else {
            return;
        };
        let mut news = Vec::new();
        for (slot, listener) in &mut self.listeners {
            if let Some(ready) = listener.holders.get_mut(&process)
                && !*ready
            {
                *ready = true;
                news.push(*slot);
            }
        }
        if let Some(generation) = self.generation_mut(generation)
            && generation.phase == Phase::Registered
        {
            generation.phase = Phase::Ready;
        }
        news.into_iter().for_each(|slot| self.note(slot));
        self.record(generation, Happened::Ready);
    }

    /// A descriptor has been taken from a process that lives.
    pub(crate) fn fetched(&mut self, slot: Slot, now: Moment) {
        let Some(listener) = self.listeners.get_mut(&slot) else {
            return;
        };
        listener.custody = true;
        self.put(Effect::Attach { join: None });
        self.put(Effect::Store { slot });
        self.prepare(&[slot]);
        self.relieved = true;
        self.closing_soon(now);
        self.drains
            .iter_mut()
            .for_each(|drain| drain.retry.soon(now));
    }

    /// Gives listeners the options that their generation's phase asks for.
    pub(crate) fn prepare(&mut self, slots: &[Slot]) {
        for slot in slots {
            let Some(listener) = self.listeners.get(slot) else {
                continue;
            };
            let phase = self.generation(listener.generation).map(|g| g.phase);
            let draining = matches!(
                phase,
                Some(Phase::Draining | Phase::Standby | Phase::Drained)
            );
            self.put(Effect::Prepare {
                slot: *slot,
                draining,
            });
        }
    }
}
