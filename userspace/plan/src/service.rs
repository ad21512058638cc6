//! A service: its generations, and what is published of them.

use std::net::SocketAddr;

use crate::{Change, Generation, GenerationId, Member, PlanError, Slot, Table, slots::Slots};

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) generations: Vec<Generation>,
    pub(crate) tombstones: Vec<Member>,
    pub(crate) slots: Slots,
    pub(crate) working: Option<GenerationId>,
    pub(crate) previous: Option<GenerationId>,
    pub(crate) epoch: u64,
    pub(crate) last_id: u32,
    pub(crate) published: Option<Table>,
    pub(crate) committing: Option<Change>,
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
            slots: Slots::default(),
            working: None,
            previous: None,
            epoch: 0,
            last_id: 0,
            published: None,
            committing: None,
        }
    }

    pub(crate) fn named(&self, name: &str) -> Result<&Generation, PlanError> {
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

    /// A generation.
    pub fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.generations
            .iter()
            .find(|generation| generation.id == id)
    }

    pub(crate) fn generation_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
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
