//! Retirement: an operator has a generation forgotten.

use synflip_types::{EndpointId, Epoch, GenerationId, Name};

use crate::{Answer, Asker, Event, Happened, Moment, NoteState, Phase, PlanError, Service};

impl Service {
    /// An operator has a generation forgotten: its servers are to close.
    pub(crate) fn retire(&mut self, by: Asker, name: &Name, force: bool, now: Moment) {
        match self.try_retire(name, force) {
            Ok(()) => {
                self.closing_soon(now);
                self.answer(by, Answer::Done);
            }
            Err(error) => self.refuse(by, error),
        }
    }

    fn try_retire(&mut self, name: &Name, force: bool) -> Result<(), PlanError> {
        let generation = self.named(name)?;
        let (id, phase) = (generation.id, generation.phase);
        let name = generation.name.to_string();
        if self.flipping_to() == Some(id) {
            return Err(PlanError::FlipInProgress);
        }
        match phase {
            Phase::Working => return Err(PlanError::StillWorking { name }),
            Phase::Draining if !force => return Err(PlanError::StillDraining { name }),
            _ => {}
        }
        // One that has never worked goes with the addresses that it alone has.
        if !force
            && !matches!(phase, Phase::Registered | Phase::Ready)
            && let Some(endpoint) = self.endpoint_served_by(id)
        {
            let address = self.places[&endpoint].address.address();
            return Err(PlanError::StillServing { name, address });
        }
        self.supersede(id);
        let departure = NoteState::Leaving(Epoch(0));
        if let Some(generation) = self.generation_mut(id) {
            generation.phase = Phase::Drained;
            generation.departure = Some(departure);
        }
        if self.previous == Some(id) {
            self.previous = None;
        }
        self.note_departure(id, departure);
        if force {
            let its = self.listeners.values_mut().filter(|l| l.generation == id);
            its.for_each(|listener| listener.forced = true);
        }
        self.record(id, Happened::Retired { force });
        self.tell(id, Event::Retired);
        self.forget_if_empty(id);
        Ok(())
    }

    /// An endpoint at which a generation that does not work gets new connections all the same, now
    /// or in a moment, because the one that works has nobody there.
    fn endpoint_served_by(&self, id: GenerationId) -> Option<EndpointId> {
        let mentioned = self.mentioned();
        let mut listeners = self.listeners.iter();
        let its = listeners.find(|(slot, listener)| {
            listener.generation == id && listener.accepts() && mentioned.contains(slot)
        });
        its.map(|(_, listener)| listener.endpoint)
    }
}
