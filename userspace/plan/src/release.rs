//! Release: an operator gives a service back to plain SO_REUSEPORT, and its servers go on.

use synflip_types::{GenerationId, Slot};

use crate::{Answer, Asker, Effect, Event, Happened, PlanError, Role, Service};

impl Service {
    /// An operator wants the service to be steered no more.
    ///
    /// Only the generation that works is there then, and the kernel's hash spreads connections over
    /// all of its listeners: over no others, since whatever else listens would get some too.
    pub(crate) fn release(&mut self, by: Asker) {
        let working = match self.may_release() {
            Ok(working) => working,
            Err(error) => return self.refuse(by, error),
        };
        let is_tombstone = |slot: &Slot| self.listeners[slot].role == Role::Tombstone;
        let (tombstones, members): (Vec<Slot>, Vec<Slot>) =
            self.listeners.keys().copied().partition(is_tombstone);
        for slot in tombstones {
            self.close(slot, 0);
        }
        self.record(working, Happened::Released);
        self.tell(working, Event::Released);
        // A table whose slots are empty selects nobody: from here on the kernel chooses.
        for slot in members {
            self.put(Effect::Clear { slot });
        }
        self.answer(by, Answer::Done);
        self.listeners.clear();
        self.processes.clear();
        self.over = true;
        self.put(Effect::End);
    }

    fn may_release(&self) -> Result<GenerationId, PlanError> {
        if self.change.is_some() || !self.joins.is_empty() {
            return Err(PlanError::FlipInProgress);
        }
        let working = self.working.and_then(|id| self.generation(id));
        let working = working.ok_or(PlanError::NobodyWorks)?.id;
        let others = self.generations.iter().filter(|g| g.id != working);
        let others: Vec<String> = others.map(|g| g.name.to_string()).collect();
        if !others.is_empty() {
            let names = others.join(", ");
            return Err(PlanError::OthersThere { names });
        }
        let mut members = self.listeners.values();
        if members.any(|listener| listener.role != Role::Tombstone && !listener.accepts()) {
            return Err(PlanError::NotAllAccept);
        }
        Ok(working)
    }
}
