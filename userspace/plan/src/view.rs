//! What of a service may be seen, by the agent and by the other decisions.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{
    Generation, Listener, Place, PlanError, Process, ProcessId, Role, Rules, Service, Table,
};

impl Service {
    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// A generation.
    pub fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.iter().find(|g| g.id == id)
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The listeners, by slot.
    pub fn listeners(&self) -> &BTreeMap<Slot, Listener> {
        &self.listeners
    }

    /// The processes that hold listeners.
    pub fn processes(&self) -> &BTreeMap<ProcessId, Process> {
        &self.processes
    }

    /// The endpoints.
    pub fn places(&self) -> &BTreeMap<EndpointId, Place> {
        &self.places
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
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The table that the kernel follows, as far as is known.
    pub fn table(&self) -> Option<&Table> {
        self.published.as_ref()
    }

    /// Whether a table is being published.
    pub fn is_committing(&self) -> bool {
        self.change.is_some()
    }

    /// Whether something is under way of which a report will come.
    pub fn is_busy(&self) -> bool {
        self.change.is_some() || self.looking.is_some() || !self.joins.is_empty()
    }

    /// What the operator has chosen.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The slots of a generation's listeners, tombstones left out.
    pub(crate) fn slots_of(&self, generation: GenerationId) -> Vec<Slot> {
        let its = |(_, listener): &(&Slot, &Listener)| {
            listener.generation == generation && listener.role != Role::Tombstone
        };
        self.listeners
            .iter()
            .filter(its)
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Those of a generation's listeners at an endpoint that new connections may go to.
    ///
    /// One that nobody accepts from, although its process lives, is left out while a sibling's
    /// queue moves.
    pub(crate) fn accepting(&self, generation: GenerationId, endpoint: EndpointId) -> Vec<Slot> {
        let its: Vec<_> = self
            .listeners
            .iter()
            .filter(|(_, listener)| {
                listener.generation == generation
                    && listener.endpoint == endpoint
                    && listener.accepts()
            })
            .collect();
        let all_stuck = its.iter().all(|(_, listener)| listener.stuck.is_some());
        let moving = its
            .iter()
            .filter(|(_, listener)| all_stuck || listener.stuck.is_none());
        moving.map(|(slot, _)| **slot).collect()
    }

    /// The slots of the table that the kernel follows, and of the one it may follow in a moment.
    ///
    /// A new listener must not come into one of them, even if it is free because its listener died
    /// while there was no agent: it would be given connections before its time.
    pub(crate) fn mentioned(&self) -> BTreeSet<Slot> {
        let changing = self.change.as_ref().map(|change| &change.table);
        let tables = self.published.iter().chain(changing);
        tables.flat_map(Table::all_slots).map(Slot).collect()
    }

    pub(crate) fn named(&self, name: &Name) -> Result<&Generation, PlanError> {
        let found = self.generations.iter().find(|g| g.name == *name);
        found.ok_or_else(|| {
            let known: Vec<_> = self.generations.iter().map(|g| g.name.as_str()).collect();
            PlanError::NoSuchGeneration {
                name: name.to_string(),
                known: if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                },
            }
        })
    }

    pub(crate) fn generation_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|g| g.id == id)
    }
}
