//! What changes without a request: who succeeds when nobody serves the working generation any more,
//! and the working generation's table when processes come and go.

use synflip_types::GenerationId;

use crate::{Moment, Service, Table};

impl Service {
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
}
