//! Draining: when nothing is pending on a generation's listeners, and nothing can come any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use synflip_types::{GenerationId, Slot};

use crate::{
    Answer, Asker, DrainEnd, Event, Happened, Link, Moment, Phase, Reading, Service, time::Retry,
};

/// The drain of one generation after one flip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Drain {
    pub(crate) generation: GenerationId,
    pub(crate) keep: bool,
    since: Moment,
    waiter: Option<Waiter>,
    /// The next look.
    pub(crate) retry: Retry,
    /// What makes the next look conclusive.
    pub(crate) check: Check,
    /// Whether what was pending at the commit has been recorded.
    recorded: bool,
    /// The listeners that were empty at the last look.
    empty: BTreeSet<Slot>,
    /// What was pending on all of them together at the last look.
    last: (u64, u64),
}

/// Whether a look at empty listeners ends the drain: only if the program has been put on the groups,
/// and a grace period has passed, since a connection could last come past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// It does not: something is expected to be pending.
    None,
    /// It does: a table has just been published.
    Published,
    /// It does once the program has been attached again.
    Attach,
}

/// A peer that waits for the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    pub(crate) asker: Asker,
    pub(crate) deadline: Moment,
}

impl Drain {
    pub(crate) fn new(
        generation: GenerationId,
        keep: bool,
        waiter: Option<Waiter>,
        check: Check,
        now: Moment,
    ) -> Self {
        Self {
            generation,
            keep,
            since: now,
            waiter,
            retry: Retry::now(now),
            check,
            recorded: false,
            empty: BTreeSet::new(),
            last: (0, 0),
        }
    }

    /// When its waiter gives up.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.waiter.map(|waiter| waiter.deadline)
    }

    /// The same, told the time by a clock that shows `by` less.
    pub(crate) fn set_back(&mut self, by: u64) {
        // It is for people only: how long a drain has taken decides nothing.
        self.since = Moment(0);
        if let Some(waiter) = &mut self.waiter {
            waiter.deadline = waiter.deadline.set_back(by);
        }
    }

    /// Takes notice of a look at its listeners; true if a connection has come to one that was
    /// empty.
    fn look(&mut self, readings: &[(Slot, Reading)]) -> bool {
        let is_empty = |reading: &Reading| reading.is_empty();
        let came = readings
            .iter()
            .any(|(slot, reading)| reading.queued() > 0 && self.empty.contains(slot));
        let empty = readings.iter().filter(|(_, reading)| is_empty(reading));
        self.empty = empty.map(|(slot, _)| *slot).collect();
        let sum = |pending: fn(Reading) -> u32| {
            readings
                .iter()
                .map(|(_, reading)| u64::from(pending(*reading)))
                .sum()
        };
        self.last = (sum(Reading::queued), sum(Reading::half_open));
        came
    }
}

impl Service {
    /// Takes notice of a look at a generation's listeners.
    ///
    /// A drain ends only when nothing is pending *and* the program is known to be on the groups
    /// since before that was read, a grace period in between: a member may have taken it away, and
    /// then connections come to the old listeners too. Nor does it end while the table names one
    /// of its listeners, because nobody else accepts at an endpoint.
    pub(crate) fn drain_read(
        &mut self,
        id: GenerationId,
        attached: bool,
        readings: &BTreeMap<Slot, Reading>,
        now: Moment,
    ) {
        let slots = self.slots_of(id);
        let reading = |slot: &Slot| readings.get(slot).copied().unwrap_or(Reading::Unknown);
        let its: Vec<_> = slots.iter().map(|slot| (*slot, reading(slot))).collect();
        let pace = self.rules.drain;
        // Connections come to it: a table names its listeners, or may before the report of it comes.
        // It is being flipped back to, or serves an endpoint where the working generation has nobody.
        let serves = self.is_mentioned(id);
        let Some(at) = self.drains.iter().position(|drain| drain.generation == id) else {
            return;
        };
        let drain = &mut self.drains[at];
        let came = drain.look(&its);
        let is_empty = its.iter().all(|(_, reading)| reading.is_empty());
        if serves {
            // Connections come to them by the table: that is no sign of a missing program.
            drain.empty.clear();
        }
        let (came, is_empty) = (came && !serves, is_empty && !serves);
        let first = !mem::replace(&mut drain.recorded, true);
        let (queued, half_open) = drain.last;
        let waiter = drain.waiter;
        drain.retry.later(now, pace);
        let has_attached = mem::replace(&mut drain.check, Check::None) == Check::Attach;
        if came || is_empty {
            drain.check = Check::Attach;
            // At once, unless this look was made after an attachment: then after the usual pause.
            if !has_attached {
                drain.retry.soon(now);
            }
        }
        if first {
            self.record(id, Happened::Draining { queued, half_open });
        }
        if came {
            self.record(id, Happened::ProgramGone);
        }
        if let Some(waiter) = waiter {
            self.answer(waiter.asker, Answer::Draining { generation: id });
        }
        if is_empty && attached {
            self.drained(id, now);
        }
    }

    /// Whether connections go to any of a generation's listeners, or will in a moment.
    pub(crate) fn is_mentioned(&self, id: GenerationId) -> bool {
        let mentioned = self.mentioned();
        self.slots_of(id)
            .iter()
            .any(|slot| mentioned.contains(slot))
    }

    /// Has those drains looked at that no table mentions any more: nothing comes to them, since a
    /// grace period.
    pub(crate) fn resume_drains(&mut self, now: Moment) {
        for at in 0..self.drains.len() {
            if !self.is_mentioned(self.drains[at].generation) {
                let drain = &mut self.drains[at];
                drain.check = Check::Published;
                drain.retry.soon(now);
            }
        }
    }

    fn drained(&mut self, id: GenerationId, now: Moment) {
        let Some(at) = self.drains.iter().position(|drain| drain.generation == id) else {
            return;
        };
        let drain = self.drains.remove(at);
        // An adopted server cannot be told to close: its listeners stay open, for a rollback.
        let mut processes = self.processes.values();
        let adopted = processes.any(|p| p.generation == id && p.link == Link::Adopted);
        let kept = (drain.keep || adopted) && !self.slots_of(id).is_empty();
        let (phase, end, event) = if kept {
            (Phase::Standby, DrainEnd::Standby, Event::Standby)
        } else if self.clients_of(id) > 0 {
            (Phase::Leaving, DrainEnd::Drained, Event::Leaving)
        } else {
            (Phase::Drained, DrainEnd::Drained, Event::Drained)
        };
        if let Some(generation) = self.generation_mut(id) {
            generation.phase = phase;
        }
        if phase == Phase::Drained && self.previous == Some(id) {
            self.previous = None;
        }
        let after_ms = now - drain.since;
        self.record(id, Happened::Drained { kept, after_ms });
        self.tell(id, event);
        self.drain_over(&drain, end);
        self.forget_if_empty(id);
    }

    /// Ends the drains of generations that have no listener any more.
    pub(crate) fn end_empty_drains(&mut self, now: Moment) {
        let drains = self.drains.iter().map(|drain| drain.generation);
        let empty =
            |id: &GenerationId| self.slots_of(*id).is_empty() && self.flipping_to() != Some(*id);
        let over: Vec<GenerationId> = drains.filter(empty).collect();
        over.into_iter().for_each(|id| self.drained(id, now));
    }

    /// A generation works again, or is retired: whoever waits for its drain waits for something
    /// that is over.
    pub(crate) fn supersede(&mut self, id: GenerationId) {
        let is_its = |drain: &mut Drain| drain.generation == id;
        let over: Vec<Drain> = self.drains.extract_if(.., is_its).collect();
        for drain in over {
            self.drain_over(&drain, DrainEnd::Superseded);
        }
    }

    /// The service is over: nothing drains any more.
    pub(crate) fn end_drains(&mut self) {
        for drain in mem::take(&mut self.drains) {
            let end = if drain.last == (0, 0) {
                DrainEnd::Drained
            } else {
                DrainEnd::Superseded
            };
            self.drain_over(&drain, end);
        }
    }

    /// Whoever waits for the end of a drain need not wait for it any longer; it goes on.
    pub(crate) fn end_wait(&mut self, id: GenerationId, end: DrainEnd) {
        let mut drains = self.drains.iter_mut();
        let drain = drains.find(|drain| drain.generation == id);
        if let Some(waiter) = drain.and_then(|drain| drain.waiter.take()) {
            let generation = Some(id);
            self.answer(waiter.asker, Answer::DrainOver { generation, end });
        }
    }

    fn drain_over(&mut self, drain: &Drain, end: DrainEnd) {
        if let Some(waiter) = drain.waiter {
            let generation = Some(drain.generation);
            self.answer(waiter.asker, Answer::DrainOver { generation, end });
        }
    }

    /// Tells those whose patience has ended how far the drains have come.
    pub(crate) fn watch_deadlines(&mut self, now: Moment) {
        let mut passed = Vec::new();
        for drain in &mut self.drains {
            if let Some(waiter) = drain.waiter.take_if(|waiter| waiter.deadline <= now) {
                passed.push((drain.generation, waiter.asker, drain.last));
            }
        }
        for (id, asker, (queued, half_open)) in passed {
            self.record(id, Happened::DeadlinePassed { queued, half_open });
            let answer = Answer::DrainOver {
                generation: Some(id),
                end: DrainEnd::DeadlinePassed,
            };
            self.answer(asker, answer);
        }
    }
}
