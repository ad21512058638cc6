//! Flips: from the request to the table that is published, and what follows when the kernel has taken
//! or refused it.

use synflip_types::{EndpointId, Epoch, GenerationId, Slot};

use crate::{
    Answer, Asker, DrainEnd, Effect, Event, Flip, FlipRequest, Happened, Moment, NotPublished,
    NoteState, Phase, PlanError, Service, Table, Target,
    drain::{Check, Drain, Waiter},
};

/// A table that is being published, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    pub(crate) table: Table,
    /// The flip that it commits; none if only listeners of the working generation have changed.
    pub(crate) flip: Option<Flip>,
    /// Who asked for it; nobody if it follows from a death.
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    by: Asker,
    drain_ms: u64,
    keep: bool,
}

/// A flip that has been asked for while a table was being published.
pub(crate) type Waiting = FlipRequest;

impl Service {
    /// A peer asks for a flip. It waits for a refresh that is being published, but for no other
    /// flip.
    pub(crate) fn flip_for(&mut self, request: FlipRequest, now: Moment) {
        let refreshing = self
            .change
            .as_ref()
            .is_some_and(|change| change.flip.is_none());
        if refreshing && self.waiting.is_none() {
            self.waiting = Some(request);
            return;
        }
        let by = request.by;
        if let Err(error) = self.begin_flip(&request, now) {
            self.refuse(by, error);
        }
    }

    fn begin_flip(&mut self, request: &FlipRequest, now: Moment) -> Result<(), PlanError> {
        if self.change.is_some() {
            return Err(PlanError::FlipInProgress);
        }
        if let Some(seen) = request.if_epoch.filter(|seen| *seen != self.epoch) {
            return Err(PlanError::EpochMoved {
                seen: seen.0,
                now: self.epoch.0,
            });
        }
        let to = self.resolve(&request.target)?;
        let (id, name) = (to.id, to.name.to_string());
        if self.working == Some(id) {
            return Err(PlanError::AlreadyWorking { name });
        }
        if !self.can_work(to) {
            let why = self.why_not(to);
            return Err(PlanError::NotReady { name, why });
        }
        let drop = self.dropped(request, id, &name)?;
        // A rollback takes what there is: the endpoints that it lacks stay with who has them.
        if request.target != Target::Previous
            && let Some(missing) = self.served_endpoint_without(id, &drop)
        {
            return Err(PlanError::EndpointMissing {
                name,
                address: self.places[&missing].address.address(),
            });
        }
        for endpoint in drop {
            if let Some(place) = self.places.get_mut(&endpoint) {
                place.dropped = true;
            }
        }
        let asked = Asked {
            by: request.by,
            drain_ms: request.drain_ms,
            keep: request.keep,
        };
        self.publish_flip(id, Some(asked), now);
        Ok(())
    }

    pub(crate) fn publish_flip(&mut self, to: GenerationId, asked: Option<Asked>, now: Moment) {
        let epoch = Epoch(self.epoch.0 + 1);
        let table = self.table_of(to, epoch);
        let flip = Flip {
            from: self.working,
            to,
            epoch,
            listeners: table.all_slots().count(),
        };
        if let Some(from) = flip.from {
            let keep = asked.is_some_and(|asked| asked.keep);
            let departure = if keep {
                NoteState::Kept(epoch)
            } else {
                NoteState::Leaving(epoch)
            };
            self.note_departure(from, departure);
        }
        self.publish(table, Some(flip), asked);
        self.publish_retry.later(now, self.rules.publish);
    }

    fn flipped(&mut self, flip: Flip, asked: Option<Asked>, now: Moment) {
        let Flip {
            from, to, epoch, ..
        } = flip;
        self.epoch = epoch;
        (self.working, self.previous) = (Some(to), from);
        let keep = asked.is_some_and(|asked| asked.keep);
        for generation in &mut self.generations {
            if generation.id == to {
                generation.phase = Phase::Working;
                generation.departure = None;
            } else if Some(generation.id) == from {
                generation.phase = Phase::Draining;
                generation.departure = Some(if keep {
                    NoteState::Kept(epoch)
                } else {
                    NoteState::Leaving(epoch)
                });
            }
        }
        self.supersede(to);
        let slots = self.slots_of(to);
        // What nobody accepted from while it drained may be accepted from now.
        self.unstick(&slots);
        slots.iter().for_each(|slot| self.note(*slot));
        self.prepare(&slots);
        self.record(to, Happened::Working { epoch });
        self.tell(to, Event::Working);
        if let Some(asked) = asked {
            self.answer(asked.by, Answer::Committed(flip));
        }
        for endpoint in self.lacks(to) {
            let endpoint = self.places[&endpoint].address;
            self.record(to, Happened::Lacks { endpoint });
        }
        let waiter = asked
            .filter(|asked| asked.drain_ms > 0)
            .map(|asked| Waiter {
                asker: asked.by,
                deadline: now + asked.drain_ms,
            });
        match from {
            Some(from) => {
                self.prepare(&self.slots_of(from));
                self.tell(from, Event::Draining);
                let drain = Drain::new(from, keep, waiter, Check::Published, now);
                self.drains.push(drain);
                if self.is_mentioned(from) {
                    self.end_wait(from, DrainEnd::Serving);
                }
            }
            None => {
                if let Some(waiter) = waiter {
                    let answer = Answer::DrainOver {
                        generation: None,
                        end: DrainEnd::Drained,
                    };
                    self.answer(waiter.asker, answer);
                }
            }
        }
    }

    /// The generation that the flip which is being committed goes to.
    pub(crate) fn flipping_to(&self) -> Option<GenerationId> {
        Some(self.change.as_ref()?.flip.as_ref()?.to)
    }

    pub(crate) fn publish(&mut self, table: Table, flip: Option<Flip>, asked: Option<Asked>) {
        let slots = table.all_slots().map(Slot);
        let cookie = |slot| self.listeners.get(&slot).map(|listener| listener.cookie);
        let members = slots
            .filter_map(|slot| Some((slot, cookie(slot)?)))
            .collect();
        self.put(Effect::Publish {
            table: table.clone(),
            members,
        });
        self.change = Some(Change { table, flip, asked });
        // The new table sends connections to these: what is being read of them now ends no drain.
        if let Some(mut look) = self.looking.take() {
            look.drains.retain(|id, _| !self.is_mentioned(*id));
            self.looking = Some(look);
        }
    }

    /// The table with which a generation works.
    pub(crate) fn table_of(&self, id: GenerationId, epoch: Epoch) -> Table {
        let last = self.places.keys().next_back().map_or(0, |last| last.0 + 1);
        let lists: Vec<Vec<u32>> = (0..last)
            .map(|endpoint| self.table_slots(id, EndpointId(endpoint)))
            .map(|slots| slots.into_iter().map(|slot| slot.0).collect())
            .collect();
        Table::new(lists.iter().map(Vec::as_slice)).of(id, epoch.0)
    }

    /// The listeners that an endpoint's connections go to while a generation works: its own; where
    /// it has none that accepts, those of whoever accepts there; where nobody does, what they went
    /// to before, so that they wait there for somebody to come.
    fn table_slots(&self, id: GenerationId, endpoint: EndpointId) -> Vec<Slot> {
        let own = self.accepting(id, endpoint);
        let is_dropped = self.places.get(&endpoint).is_some_and(|p| p.dropped);
        if !own.is_empty() || is_dropped {
            return own;
        }
        let others = self.generations.iter().rev().filter(|other| {
            other.id != id && !matches!(other.phase, Phase::Registered | Phase::Drained)
        });
        let somebody = others
            .map(|other| self.accepting(other.id, endpoint))
            .find(|slots| !slots.is_empty());
        somebody.unwrap_or_else(|| {
            let given_up = self
                .places
                .get(&endpoint)
                .is_none_or(|place| place.given_up);
            let mut slots = self.published_slots(endpoint);
            slots.retain(|slot| {
                let listener = self.listeners.get(slot);
                !given_up && listener.is_some_and(|listener| !listener.stopped)
            });
            slots
        })
    }

    pub(crate) fn published_slots(&self, endpoint: EndpointId) -> Vec<Slot> {
        let table = self.published.as_ref();
        let slots = table
            .map(|table| table.slots(endpoint.0))
            .unwrap_or_default();
        slots.iter().copied().map(Slot).collect()
    }

    /// The kernel has taken a table, or refused it.
    pub(crate) fn published(&mut self, result: Result<(), NotPublished>, now: Moment) {
        let Some(change) = self.change.take() else {
            return;
        };
        match result {
            Ok(()) => {
                self.publish_retry.soon(now);
                self.published = Some(change.table);
                self.forget_dropped();
                match change.flip {
                    Some(flip) => self.flipped(flip, change.asked, now),
                    None => self.refreshed(),
                }
                self.resume_drains(now);
                // What came to a tombstone before there was a table to follow is on it by now.
                self.relieved = true;
            }
            Err(NotPublished { gone, why }) => {
                // No grace period has passed: the program is attached again before a drain can end.
                self.drains
                    .iter_mut()
                    .for_each(|drain| drain.check = Check::Attach);
                // The next table leaves out the listener that is gone: it is tried at once.
                if let Some(slot) = gone {
                    self.lose(slot);
                    self.publish_retry.soon(now);
                }
                if let Some(asked) = change.asked {
                    // What the request was to drop is in the table still.
                    self.forget_dropped();
                    let error = PlanError::Kernel { why: why.clone() };
                    self.refuse(asked.by, error);
                }
                let generation = change.flip.map(|flip| flip.to).or(self.working);
                let what = Happened::NotPublished { why };
                self.put(Effect::Record { generation, what });
            }
        }
        self.closing_soon(now);
    }

    /// Endpoints that the published table has are dropped no longer.
    fn forget_dropped(&mut self) {
        let table = self.published.as_ref();
        for (endpoint, place) in &mut self.places {
            place.dropped &= table.is_none_or(|table| table.slots(endpoint.0).is_empty());
        }
    }

    fn refreshed(&mut self) {
        if let Some(working) = self.working {
            let listeners = self.published.as_ref().map_or(0, |t| t.all_slots().count());
            self.record(working, Happened::Refreshed { listeners });
        }
    }
}
