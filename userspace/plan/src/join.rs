//! Joining: from a process's listeners to members of a generation.
//!
//! A listener is put into its slot and noted, then the program is put on its reuseport group; only
//! when all of a registration's listeners are in place is the process told, and only then may any
//! table name them.

use std::collections::{BTreeMap, BTreeSet};

use synflip_abi::MAX_ENDPOINTS;
use synflip_types::{Cookie, Endpoint, EndpointId, GenerationId, Name, Slot};

use crate::{
    Asker, Effect, Generation, Join, Link, Listener, Moment, Phase, PlanError, Process, ProcessId,
    Role, Service, service::Place,
};

/// A registration that is being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Joining {
    pub(crate) answer: Asker,
    pub(crate) generation: GenerationId,
    pub(crate) new: Vec<Slot>,
    pub(crate) known: Vec<Slot>,
    /// Those of the known ones that the process did not hold before.
    pub(crate) taken_up: Vec<Slot>,
    pub(crate) refused: Option<String>,
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
                Phase::Draining | Phase::Leaving | Phase::Standby | Phase::Drained
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
                dropped: false,
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
                clients: 0,
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
                custody: false,
                role: Role::Joining,
                stopped: false,
                stuck: None,
                probes: 0,
                forced: false,
                lent: BTreeSet::new(),
            };
            self.listeners.insert(slot, listener);
            self.brought += 1;
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
        (listener.custody, listener.stuck) = (true, None);
        let cookie = listener.cookie;
        self.brought += 1;
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
}
