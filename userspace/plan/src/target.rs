//! Which generation a flip may go to, and which endpoints it lacks.

use synflip_types::{Endpoint, EndpointId, GenerationId};

use crate::{FlipRequest, Generation, Phase, PlanError, Service, Target};

impl Service {
    pub(crate) fn resolve(&self, target: &Target) -> Result<&Generation, PlanError> {
        match target {
            Target::Named(name) => self.named(name),
            Target::Previous => {
                let previous = self.previous.and_then(|id| self.generation(id));
                previous
                    .filter(|g| self.can_work(g) || self.was_shut_down(g.id))
                    .ok_or(PlanError::NoPrevious)
            }
            Target::Latest => {
                let mut newest_first = self.generations.iter().rev();
                newest_first
                    .find(|g| self.can_work(g) || g.phase == Phase::Working)
                    .ok_or(PlanError::NoneReady)
            }
        }
    }

    /// Whether a flip to it is allowed.
    pub(crate) fn can_work(&self, generation: &Generation) -> bool {
        matches!(
            generation.phase,
            Phase::Ready | Phase::Draining | Phase::Leaving | Phase::Standby
        ) && self
            .listeners
            .values()
            .any(|listener| listener.generation == generation.id && listener.accepts())
    }

    /// Why a generation cannot take connections, for people.
    pub(crate) fn why_not(&self, generation: &Generation) -> &'static str {
        match generation.phase {
            Phase::Registered => "its server has not said that it is ready",
            Phase::Drained => "it has drained and its servers are closing",
            _ if self.was_shut_down(generation.id) => {
                "its listeners were shut down; when they listen again, register it again"
            }
            _ => "no process that is ready accepts for it",
        }
    }

    pub(crate) fn was_shut_down(&self, id: GenerationId) -> bool {
        let slots = self.slots_of(id);
        slots.iter().any(|slot| self.listeners[slot].stopped)
    }

    /// An endpoint that somebody accepts at, in the published table, and a generation does not.
    pub(crate) fn served_endpoint_without(
        &self,
        id: GenerationId,
        drop: &[EndpointId],
    ) -> Option<EndpointId> {
        let mut endpoints = self.places.keys().copied();
        endpoints.find(|endpoint| {
            !drop.contains(endpoint)
                && self.accepting(id, *endpoint).is_empty()
                && self.published_slots(*endpoint).iter().any(|slot| {
                    self.listeners.get(slot).is_some_and(|listener| {
                        listener.accepts() && Some(listener.generation) == self.working
                    })
                })
        })
    }

    /// The endpoints that a request for a flip drops.
    pub(crate) fn dropped(
        &self,
        request: &FlipRequest,
        to: GenerationId,
        name: &str,
    ) -> Result<Vec<EndpointId>, PlanError> {
        let find = |wanted: &Endpoint| {
            let address = wanted.address();
            let mut places = self.places.iter();
            let found = places.find(|(_, place)| place.address == *wanted);
            let Some((id, _)) = found else {
                let known = self.places.values().map(|place| place.address.address());
                let known: Vec<String> = known.map(|address| address.to_string()).collect();
                let known = known.join(", ");
                return Err(PlanError::NoSuchEndpoint { address, known });
            };
            if self.accepting(to, *id).is_empty() {
                Ok(*id)
            } else {
                let name = name.to_owned();
                Err(PlanError::EndpointNotMissing { name, address })
            }
        };
        request.drop.iter().map(find).collect()
    }

    /// The endpoints that a generation's table gives to listeners of others.
    pub fn lacks(&self, id: GenerationId) -> Vec<EndpointId> {
        let elsewhere = |endpoint: &EndpointId| {
            let slots = self.published_slots(*endpoint);
            !slots.is_empty() && self.accepting(id, *endpoint).is_empty()
        };
        self.places.keys().copied().filter(elsewhere).collect()
    }
}
