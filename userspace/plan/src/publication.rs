//! The table that the kernel follows: which it should be, and what follows from the kernel's having
//! taken or refused it.

use synflip_types::{EndpointId, Epoch, GenerationId, Slot};

use crate::{
    Effect, Flip, Happened, Moment, NotPublished, Phase, PlanError, Service, Table,
    drain::Check,
    flip::{Asked, Change},
};

impl Service {
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

    /// Sees to it that the published table is that of a generation which accepts.
    pub(crate) fn keep_published(&mut self, now: Moment) {
        if self.change.is_some() {
            return;
        }
        if let Some(request) = self.waiting.take() {
            self.flip_for(request, now);
            if self.change.is_some() {
                return;
            }
        }
        if !self.wants_publication() || !self.publish_retry.is_due(now) {
            return;
        }
        if let Some(successor) = self.successor() {
            self.publish_flip(successor, None, now);
        } else if let Some(table) = self.refreshed_table() {
            self.publish(table, None, None);
            self.publish_retry.later(now, self.rules.publish);
        }
    }

    /// Whether the kernel follows a table that is not the one it should.
    pub(crate) fn wants_publication(&self) -> bool {
        self.change.is_none() && (self.successor().is_some() || self.refreshed_table().is_some())
    }

    /// The generation to flip to unasked: nobody serves the working one any more, or there is
    /// none, and this is the newest that can take connections.
    fn successor(&self) -> Option<GenerationId> {
        let is_held = |id| {
            self.slots_of(id)
                .iter()
                .any(|slot| self.listeners[slot].is_anybodys())
        };
        if self.working.is_some_and(is_held) {
            return None;
        }
        let mut others = self.generations.iter().rev();
        others
            .find(|g| Some(g.id) != self.working && self.can_work(g))
            .map(|generation| generation.id)
    }

    /// The working generation's table as it should be, if it is not the published one: a process
    /// joined, left or died.
    fn refreshed_table(&self) -> Option<Table> {
        let table = self.table_of(self.working?, self.epoch);
        (self.published.as_ref() != Some(&table) && !table.is_empty()).then_some(table)
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
        if !own.is_empty() {
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

    fn refreshed(&mut self) {
        if let Some(working) = self.working {
            let listeners = self.published.as_ref().map_or(0, |t| t.all_slots().count());
            self.record(working, Happened::Refreshed { listeners });
        }
    }
}
