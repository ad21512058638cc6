//! Saying good-bye: nothing is pending on a generation's listeners any more, but its processes serve
//! clients whose connections they have accepted before.
//!
//! Such a generation is *leaving*: it has been told to say good-bye to its clients, and its
//! listeners stay open until none is left. Only processes that say how many they serve are waited
//! for like that.

use synflip_types::GenerationId;

use crate::{Event, Happened, Phase, ProcessId, Service};

impl Service {
    /// A process says how many clients it serves.
    pub(crate) fn serves(&mut self, process: ProcessId, clients: u64) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.clients = clients;
        }
    }

    /// How many clients a generation's processes serve, as far as they have said.
    pub fn clients_of(&self, id: GenerationId) -> u64 {
        let processes = self.processes.values();
        let its = processes.filter(|process| process.generation == id);
        its.fold(0, |sum, process| sum.saturating_add(process.clients))
    }

    /// Has those generations close that have said good-bye to the last of their clients.
    pub(crate) fn end_leaving(&mut self) {
        let leaving = self
            .generations
            .iter()
            .filter(|g| g.phase == Phase::Leaving);
        let over: Vec<GenerationId> = leaving
            .map(|generation| generation.id)
            .filter(|id| self.clients_of(*id) == 0)
            .collect();
        for id in over {
            if let Some(generation) = self.generation_mut(id) {
                generation.phase = Phase::Drained;
            }
            if self.previous == Some(id) {
                self.previous = None;
            }
            self.record(id, Happened::ClientsGone);
            self.tell(id, Event::Drained);
            self.forget_if_empty(id);
        }
    }
}
