//! Who belongs to a service: processes and their listeners, from joining to closing.

use std::{collections::BTreeSet, net::SocketAddr};

use synflip_abi::MAX_ENDPOINTS;

use crate::{Generation, GenerationId, Member, Phase, PlanError, ProcessId, Service, Slot, Table};

/// What a process got by joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: GenerationId,
    /// A slot for each listener, in order.
    pub slots: Vec<Slot>,
    /// Those of them that the listeners are in already: it has come back to them.
    pub known: Vec<Slot>,
}

impl Service {
    /// A process joins a generation with listeners: address and socket cookie of each.
    ///
    /// Without a name it founds a generation of its own. Listeners that are known, and that no
    /// process serves at the moment, are taken up again where they were, whatever has become of
    /// their generation meanwhile.
    ///
    /// # Errors
    /// [`PlanError::GenerationClosed`], [`PlanError::ReservedName`],
    /// [`PlanError::RegisteredAlready`], or a bound is reached.
    pub fn join(
        &mut self,
        process: ProcessId,
        name: Option<&str>,
        listeners: &[(SocketAddr, u64)],
    ) -> Result<Joined, PlanError> {
        if name == Some("latest") {
            return Err(PlanError::ReservedName);
        }
        let mut returning = None;
        for (address, cookie) in listeners {
            match self.find(*cookie) {
                Some((_, member)) if member.served && member.process != ProcessId::ABSENT => {
                    return Err(PlanError::RegisteredAlready { address: *address });
                }
                Some((index, _)) => returning = Some(index),
                None => {}
            }
        }
        let named = name.and_then(|name| self.generations.iter().position(|g| g.name == name));
        if let Some(generation) = named.map(|index| &self.generations[index])
            && returning != named
            && matches!(
                generation.phase,
                Phase::Draining | Phase::Standby | Phase::Drained
            )
        {
            let (name, phase) = (generation.name.clone(), generation.phase);
            return Err(PlanError::GenerationClosed { name, phase });
        }
        let mut endpoints = self.endpoints.clone();
        for (address, _) in listeners {
            if !endpoints.contains(address) {
                endpoints.push(*address);
            }
        }
        if endpoints.len() > MAX_ENDPOINTS as usize {
            return Err(PlanError::TooManyEndpoints);
        }
        let mentioned = self.mentioned();
        let free = self.slots.free(&mentioned);
        if listeners.len() > free {
            return Err(PlanError::TooManyListeners { free });
        }

        self.endpoints = endpoints;
        let index = returning.or(named).unwrap_or_else(|| self.found(name));
        let generation = self.generations[index].id;
        let mut joined = Joined {
            generation,
            slots: Vec::new(),
            known: Vec::new(),
        };
        for (address, cookie) in listeners {
            if let Some(member) = self.take_up(*cookie, process) {
                joined.slots.push(member);
                joined.known.push(member);
                continue;
            }
            let place = self.endpoints.iter().position(|known| known == address);
            // Both were made sure of above.
            let (Some(place), Some(slot)) = (place, self.slots.take(&mentioned)) else {
                continue;
            };
            joined.slots.push(slot);
            self.generations[index].members.push(Member {
                slot,
                endpoint: u32::try_from(place).unwrap_or(u32::MAX),
                cookie: *cookie,
                process,
                ready: false,
                served: true,
            });
        }
        Ok(joined)
    }

    /// The listener with this cookie, and the index of its generation.
    fn find(&self, cookie: u64) -> Option<(usize, &Member)> {
        self.generations
            .iter()
            .enumerate()
            .find_map(|(index, generation)| {
                let member = generation
                    .members
                    .iter()
                    .find(|member| member.cookie == cookie)?;
                Some((index, member))
            })
    }

    /// Gives a known listener to the process that serves it now.
    fn take_up(&mut self, cookie: u64, process: ProcessId) -> Option<Slot> {
        let mut members = self.generations.iter_mut().flat_map(|g| &mut g.members);
        let member = members.find(|member| member.cookie == cookie)?;
        (member.process, member.served) = (process, true);
        Some(member.slot)
    }

    /// Adds an empty generation; returns its index.
    fn found(&mut self, name: Option<&str>) -> usize {
        self.last_id += 1;
        let name = name.map_or_else(|| self.unused_name(), str::to_owned);
        self.generations.push(Generation {
            id: GenerationId(self.last_id),
            name,
            phase: Phase::Registered,
            members: Vec::new(),
        });
        self.generations.len() - 1
    }

    fn unused_name(&self) -> String {
        let taken = |name: &String| self.generations.iter().any(|g| g.name == *name);
        (self.last_id..)
            .map(|number| format!("gen{number}"))
            .find(|name| !taken(name))
            .unwrap_or_default()
    }

    /// Undoes a join whose listeners could not be put in place; known ones stay where they are.
    pub fn unjoin(&mut self, joined: &Joined) {
        for slot in joined
            .slots
            .iter()
            .filter(|slot| !joined.known.contains(slot))
        {
            self.closed(*slot);
        }
    }

    /// A process accepts connections now.
    pub fn ready(&mut self, process: ProcessId) {
        for generation in &mut self.generations {
            let mut members = generation
                .members
                .iter_mut()
                .filter(|member| member.process == process)
                .peekable();
            if members.peek().is_some() && generation.phase == Phase::Registered {
                generation.phase = Phase::Ready;
            }
            members.for_each(|member| member.ready = true);
        }
    }

    /// A process no longer accepts: it has closed its listeners, or died.
    pub fn leave(&mut self, process: ProcessId) {
        for generation in &mut self.generations {
            for member in generation
                .members
                .iter_mut()
                .filter(|m| m.process == process)
            {
                member.served = false;
            }
        }
    }

    /// A listener was closed or shut down by its server.
    pub fn lose(&mut self, slot: Slot) {
        let members = self
            .generations
            .iter_mut()
            .flat_map(|generation| &mut generation.members);
        members
            .filter(|member| member.slot == slot)
            .for_each(|member| member.served = false);
    }

    /// The listeners that nobody accepts from and that no table mentions, now or in a moment.
    pub fn unneeded(&self) -> Vec<Member> {
        let mentioned = self.mentioned();
        let members = self
            .generations
            .iter()
            .flat_map(|generation| &generation.members);
        members
            .filter(|member| !member.served && !mentioned.contains(&member.slot))
            .chain(&self.tombstones)
            .copied()
            .collect()
    }

    /// The slots of the table that the kernel follows, and of the one it may follow in a moment.
    ///
    /// A new listener must not come into one of them, even if it is free because its listener died
    /// while there was no agent: it would be given connections before its time.
    fn mentioned(&self) -> BTreeSet<Slot> {
        let changing = self.committing.as_ref().map(|change| &change.table);
        let tables = self.published.iter().chain(changing);
        tables.flat_map(Table::all_slots).collect()
    }

    /// A listener stays open only because it is the first of its hash bucket.
    pub fn bury(&mut self, slot: Slot) {
        let Some(member) = self.remove(slot) else {
            return;
        };
        self.tombstones.push(member);
    }

    /// A listener is closed and out of the kernel's socket array: its slot is free.
    pub fn closed(&mut self, slot: Slot) {
        self.tombstones.retain(|member| member.slot != slot);
        self.remove(slot);
        self.slots.give_back(slot);
    }

    /// Takes a member out of its generation, and the generation out if that was its last.
    fn remove(&mut self, slot: Slot) -> Option<Member> {
        let index = self
            .generations
            .iter()
            .position(|generation| generation.members.iter().any(|member| member.slot == slot))?;
        let generation = &mut self.generations[index];
        let at = generation
            .members
            .iter()
            .position(|member| member.slot == slot)?;
        let member = generation.members.remove(at);
        let over = generation.members.is_empty();
        let (id, phase) = (generation.id, generation.phase);
        // A draining generation is over when its drain is; a working one when it is replaced.
        if over && !matches!(phase, Phase::Draining | Phase::Working) {
            self.forget(id);
        }
        Some(member)
    }

    /// Takes out a generation that has no listeners left; true if it was there and had none.
    pub fn forget(&mut self, id: GenerationId) -> bool {
        let before = self.generations.len();
        self.generations.retain(|generation| {
            generation.id != id || !generation.members.is_empty() || self.working == Some(id)
        });
        let gone = self.generations.len() < before;
        if gone && self.previous == Some(id) {
            self.previous = None;
        }
        gone
    }
}
