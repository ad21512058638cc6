//! When the machine wants to be told that time has passed.

use crate::{Moment, Service, drain::Drain};

/// A moment that does not come.
const NEVER: Moment = Moment(u64::MAX);

impl Service {
    /// The next moment at which something is due without an input.
    pub(crate) fn due(&self, now: Moment) -> Option<Moment> {
        // A hold that ends during a publication is looked at when that has ended.
        let holds = self
            .places
            .values()
            .filter(|place| !place.given_up && self.change.is_none());
        let holds = holds.filter_map(|place| Some(place.unserved_since? + self.rules.hold));
        // A drain whose listeners a table names is looked at when no table does any more.
        let drains = self.drains.iter();
        let drains = drains.filter(|drain| !self.is_mentioned(drain.generation));
        let drains = drains.map(|drain| drain.retry.due);
        let looks = drains
            .chain(
                self.closing
                    .filter(|_| self.change.is_none())
                    .map(|retry| retry.due),
            )
            .chain(self.absent.map(|retry| retry.due))
            .chain(self.stuck.map(|retry| retry.due))
            // There is one look at a time: its readings come as an input.
            .filter(|_| self.looking.is_none());
        let deadlines = self.drains.iter().filter_map(Drain::deadline);
        let publish = self.wants_publication().then_some(self.publish_retry.due);
        let expected = self.processes.values().filter_map(|p| p.expected_until);
        let attach = self.attach.map(|retry| retry.due);
        let all = looks
            .chain(holds)
            .chain(deadlines)
            .chain(publish)
            .chain(expected)
            .chain(attach);
        all.min().map(|at| at.max(now))
    }

    /// The same service, told the time by a clock that shows `by` milliseconds less.
    ///
    /// Two services that differ in nothing but how long the agent has run are equal then.
    pub fn set_back(&mut self, by: u64, now: Moment) {
        let retries = self.drains.iter_mut().map(|drain| &mut drain.retry);
        let retries = retries.chain(&mut self.closing).chain(&mut self.absent);
        let retries = retries.chain(&mut self.attach).chain(&mut self.stuck);
        for retry in retries.chain([&mut self.publish_retry]) {
            retry.set_back(by, now);
        }
        for drain in &mut self.drains {
            drain.set_back(by);
        }
        for place in self.places.values_mut() {
            let longest = Moment((now - Moment(0)).saturating_sub(self.rules.hold));
            let since = &mut place.unserved_since;
            *since = since.map(|since| since.max(longest).set_back(by));
        }
        for process in self.processes.values_mut() {
            let until = &mut process.expected_until;
            *until = until.map(|until| {
                if until == NEVER {
                    NEVER
                } else {
                    until.set_back(by)
                }
            });
        }
        self.woken = self.woken.map(|at| at.max(now).set_back(by));
    }
}
