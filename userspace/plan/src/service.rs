//! A service: its generations, and what may happen to them next.

use std::net::SocketAddr;

use synflip_abi::MAX_ENDPOINTS;

use crate::{
    Generation, GenerationId, Member, Phase, PlanError, ProcessId, Slot, Table, slots::Slots,
};

/// Which generation a flip goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this name.
    Named(String),
    /// The newest that can take connections.
    Latest,
    /// The one that was working before.
    Previous,
}

/// A table that is to be published, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The flip that it commits; none if only the working generation's listeners have changed.
    pub flip: Option<Flip>,
}

/// A change of the working generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The generation that was working.
    pub from: Option<GenerationId>,
    /// The one that will be.
    pub to: GenerationId,
    /// The count of flips once this one has committed.
    pub epoch: u64,
}

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

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) generations: Vec<Generation>,
    tombstones: Vec<Member>,
    pub(crate) slots: Slots,
    pub(crate) working: Option<GenerationId>,
    pub(crate) previous: Option<GenerationId>,
    pub(crate) epoch: u64,
    pub(crate) last_id: u32,
    pub(crate) published: Option<Table>,
    committing: Option<Change>,
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// A service with nothing registered.
    pub fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            generations: Vec::new(),
            tombstones: Vec::new(),
            slots: Slots::new(),
            working: None,
            previous: None,
            epoch: 0,
            last_id: 0,
            published: None,
            committing: None,
        }
    }

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
        let free = self.slots.free();
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
            let (Some(place), Some(slot)) = (place, self.slots.take()) else {
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

    /// Begins a flip. It is over when [`Self::commit`] or [`Self::abort`] has been called.
    ///
    /// # Errors
    /// Any reason not to; nothing has changed then.
    pub fn begin_flip(
        &mut self,
        target: &Target,
        if_epoch: Option<u64>,
    ) -> Result<Change, PlanError> {
        if self.committing.is_some() {
            return Err(PlanError::FlipInProgress);
        }
        if let Some(seen) = if_epoch.filter(|seen| *seen != self.epoch) {
            return Err(PlanError::EpochMoved {
                seen,
                now: self.epoch,
            });
        }
        let to = self.resolve(target)?;
        if self.working == Some(to.id) {
            return Err(PlanError::AlreadyWorking {
                name: to.name.clone(),
            });
        }
        if !to.can_work() {
            let why = match to.phase {
                Phase::Registered => "its server has not said that it is ready",
                Phase::Drained => "it has drained and its servers are closing",
                _ => "no process that is ready accepts for it",
            };
            return Err(PlanError::NotReady {
                name: to.name.clone(),
                why,
            });
        }
        for endpoint in self.working_endpoints() {
            if to.eligible(endpoint).is_empty() {
                let address = self.endpoints[endpoint as usize];
                return Err(PlanError::EndpointMissing {
                    name: to.name.clone(),
                    address,
                });
            }
        }
        let flip = Flip {
            from: self.working,
            to: to.id,
            epoch: self.epoch + 1,
        };
        let change = Change {
            table: self.table_of(to, flip.epoch),
            flip: Some(flip),
        };
        self.committing = Some(change.clone());
        Ok(change)
    }

    /// Begins to publish the working generation's listeners anew, if they are no longer the
    /// published ones: a process joined, left or died.
    ///
    /// A generation that nobody serves any more keeps its table: its listeners are held open, and
    /// new connections wait in them.
    pub fn begin_refresh(&mut self) -> Option<Change> {
        let working = self.working.and_then(|id| self.generation(id))?;
        let table = self.table_of(working, self.epoch);
        if self.committing.is_some() || self.published.as_ref() == Some(&table) {
            return None;
        }
        let leaves_out = self.published.as_ref().is_some_and(|published| {
            (0..MAX_ENDPOINTS).any(|e| table.slots(e).is_empty() && !published.slots(e).is_empty())
        });
        if leaves_out {
            return None;
        }
        let change = Change { table, flip: None };
        self.committing = Some(change.clone());
        Some(change)
    }

    /// The kernel follows the new table, and a grace period has passed.
    pub fn commit(&mut self) {
        let Some(change) = self.committing.take() else {
            return;
        };
        self.published = Some(change.table);
        let Some(flip) = change.flip else { return };
        self.epoch = flip.epoch;
        self.working = Some(flip.to);
        self.previous = flip.from;
        for generation in &mut self.generations {
            if generation.id == flip.to {
                generation.phase = Phase::Working;
            } else if Some(generation.id) == flip.from {
                generation.phase = Phase::Draining;
            }
        }
    }

    /// The new table was not published; all is as it was.
    pub fn abort(&mut self) {
        self.committing = None;
    }

    /// Nothing is pending on a draining generation any more.
    ///
    /// Kept, it can be rolled back to; otherwise its servers are to close.
    pub fn drained(&mut self, id: GenerationId, keep: bool) {
        if let Some(generation) = self.generation_mut(id)
            && generation.phase == Phase::Draining
        {
            generation.phase = if keep { Phase::Standby } else { Phase::Drained };
            if !keep && self.previous == Some(id) {
                self.previous = None;
            }
        }
    }

    /// Forgets a generation that is not working: its servers are to close.
    ///
    /// # Errors
    /// [`PlanError::StillWorking`], [`PlanError::StillDraining`] unless forced, or there is no
    /// such generation.
    pub fn retire(&mut self, name: &str, force: bool) -> Result<GenerationId, PlanError> {
        let generation = self.named(name)?;
        let (id, phase, name) = (generation.id, generation.phase, generation.name.clone());
        let flipping_to = self
            .committing
            .as_ref()
            .and_then(|change| change.flip.as_ref());
        if flipping_to.is_some_and(|flip| flip.to == id) {
            return Err(PlanError::FlipInProgress);
        }
        match phase {
            Phase::Working => return Err(PlanError::StillWorking { name }),
            Phase::Draining if !force => return Err(PlanError::StillDraining { name }),
            _ => {}
        }
        if let Some(generation) = self.generation_mut(id) {
            generation.phase = Phase::Drained;
        }
        if self.previous == Some(id) {
            self.previous = None;
        }
        Ok(id)
    }

    /// The listeners that nobody accepts from and that no table mentions, now or in a moment.
    pub fn unneeded(&self) -> Vec<Member> {
        let members = self
            .generations
            .iter()
            .flat_map(|generation| &generation.members);
        members
            .filter(|member| !member.served && !self.is_mentioned(member.slot))
            .chain(&self.tombstones)
            .copied()
            .collect()
    }

    fn is_mentioned(&self, slot: Slot) -> bool {
        let changing = self.committing.as_ref().map(|change| &change.table);
        let mut tables = self.published.iter().chain(changing);
        tables.any(|table| table.all_slots().any(|other| other == slot))
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

    /// The newest generation other than the working one that can take connections.
    ///
    /// When the working generation has lost its last process, this is its successor.
    pub fn successor(&self) -> Option<&Generation> {
        let others = self
            .generations
            .iter()
            .rev()
            .filter(|g| Some(g.id) != self.working);
        others.into_iter().find(|generation| generation.can_work())
    }

    fn resolve(&self, target: &Target) -> Result<&Generation, PlanError> {
        match target {
            Target::Named(name) => self.named(name),
            Target::Previous => {
                let previous = self.previous.and_then(|id| self.generation(id));
                previous
                    .filter(|generation| generation.can_work())
                    .ok_or(PlanError::NoPrevious)
            }
            Target::Latest => {
                let newest =
                    self.generations.iter().rev().find(|generation| {
                        generation.can_work() || generation.phase == Phase::Working
                    });
                newest.ok_or(PlanError::NoneReady)
            }
        }
    }

    fn named(&self, name: &str) -> Result<&Generation, PlanError> {
        self.generations
            .iter()
            .find(|generation| generation.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = self.generations.iter().map(|g| g.name.as_str()).collect();
                let known = if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                };
                PlanError::NoSuchGeneration {
                    name: name.into(),
                    known,
                }
            })
    }

    fn table_of(&self, generation: &Generation, epoch: u64) -> Table {
        let endpoints = 0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        let lists: Vec<_> = endpoints
            .map(|endpoint| generation.eligible(endpoint))
            .collect();
        Table::new(lists.iter().map(Vec::as_slice)).of(generation.id, epoch)
    }

    /// The endpoints that the working generation has listeners on.
    fn working_endpoints(&self) -> impl Iterator<Item = u32> {
        let published = self.published.as_ref();
        (0..MAX_ENDPOINTS)
            .filter(move |endpoint| published.is_some_and(|t| !t.slots(*endpoint).is_empty()))
    }

    /// A generation.
    pub fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.generations
            .iter()
            .find(|generation| generation.id == id)
    }

    fn generation_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations
            .iter_mut()
            .find(|generation| generation.id == id)
    }

    /// The socket cookie of the listener that is meant by a slot.
    pub fn cookie(&self, slot: Slot) -> Option<u64> {
        let mut members = self
            .generations
            .iter()
            .flat_map(|generation| &generation.members);
        members
            .find(|member| member.slot == slot)
            .map(|member| member.cookie)
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Drained listeners that stay open, see [`Self::bury`].
    pub fn tombstones(&self) -> &[Member] {
        &self.tombstones
    }

    /// The addresses, by endpoint number.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// The generation that new connections go to.
    pub fn working(&self) -> Option<GenerationId> {
        self.working
    }

    /// The generation that a rollback goes to.
    pub fn previous(&self) -> Option<GenerationId> {
        self.previous
    }

    /// The count of committed flips.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a change is being committed.
    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.tombstones.is_empty() && self.generations.iter().all(|g| g.members.is_empty())
    }
}
