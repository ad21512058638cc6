//! What is noted beside the slots for the agent that comes after this one.

use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{Effect, Link, ProcessId, Role, Service};

/// What is noted of a listener, besides what never changes (owner and process), for the agent that
/// comes after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// Its cookie.
    pub cookie: Cookie,
    /// The endpoint's number.
    pub endpoint: EndpointId,
    /// Where it listens.
    pub address: Endpoint,
    /// Its generation.
    pub generation: GenerationId,
    /// Its generation's name.
    pub name: Name,
    /// What it is for.
    pub state: NoteState,
    /// Whether a process that holds it has said that it is ready.
    pub ready: bool,
    /// Whether that process was adopted, and will not come back by itself.
    pub adopted: bool,
    /// A process that holds it; none if all have left.
    pub process: Option<ProcessId>,
}

/// What a noted listener is for.
///
/// [`Self::Kept`] and [`Self::Leaving`] are noted *before* the flip away is published, so that
/// they are not forgotten with an agent that dies right after it. Of the generation that the
/// published table makes work they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteState {
    /// Of a generation that works, or has not worked yet.
    Registered,
    /// Of a generation that this flip goes away from, kept for a rollback once it has drained.
    Kept(Epoch),
    /// Of a generation that this flip goes away from, to be closed once it has drained; epoch 0 if
    /// it was retired.
    Leaving(Epoch),
    /// Kept open only because it is the first of its hash bucket.
    Tombstone,
}

impl Service {
    /// Notes a listener as it is now.
    pub(crate) fn note(&mut self, slot: Slot) {
        let Some(listener) = self.listeners.get(&slot) else {
            return;
        };
        let departure = self
            .generation(listener.generation)
            .and_then(|g| g.departure);
        let state = match listener.role {
            Role::Tombstone => NoteState::Tombstone,
            Role::Joining | Role::Member => departure.unwrap_or(NoteState::Registered),
        };
        if let Some(note) = self.note_as(slot, state) {
            self.put(Effect::Note { slot, note });
        }
    }

    pub(crate) fn note_as(&self, slot: Slot, state: NoteState) -> Option<Note> {
        let listener = self.listeners.get(&slot)?;
        let process = listener.holders.iter().next();
        Some(Note {
            cookie: listener.cookie,
            endpoint: listener.endpoint,
            address: self.places.get(&listener.endpoint)?.address,
            generation: listener.generation,
            name: self.generation(listener.generation)?.name.clone(),
            state,
            ready: listener.holders.values().any(|ready| *ready),
            adopted: process.is_some_and(|(id, _)| {
                let process = self.processes.get(id);
                process.is_some_and(|process| process.link == Link::Adopted)
            }),
            process: process.map(|(id, _)| *id),
        })
    }

    pub(crate) fn note_departure(&mut self, id: GenerationId, departure: NoteState) {
        for slot in self.slots_of(id) {
            if let Some(note) = self.note_as(slot, departure) {
                self.put(Effect::Note { slot, note });
            }
        }
    }
}
