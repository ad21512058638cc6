//! The record of one drain, and the certificate made from it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use synflip_plan::{GenerationId, Pending, Slot, Steps};
use synflip_wire::{Certificate, Committed, DrainEnd, DrainStep, Endpoint, ListenerDrain};

use crate::peers::Asker;

/// First and longest time between two readings. The first finds what ends by itself within a
/// round trip; the longest is what a drain that waits for a retransmission costs.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// A peer that waits for the drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) asker: Asker,
    pub(crate) deadline: Instant,
}

/// The drain of one generation after one flip.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) generation: GenerationId,
    pub(crate) keep: bool,
    pub(crate) waiter: Option<Waiter>,
    pub(crate) next: Instant,
    flip: Committed,
    since: Instant,
    interval: Duration,
    listeners: BTreeMap<Slot, (SocketAddr, Steps)>,
    /// Whether the program was attached before the last reading, and nothing was pending since.
    pub(crate) attached: bool,
    /// Whether nothing is pending, and nothing can come any more.
    pub(crate) is_over: bool,
}

impl Drain {
    pub(crate) fn new(
        generation: GenerationId,
        flip: Committed,
        keep: bool,
        waiter: Option<Waiter>,
        listeners: impl IntoIterator<Item = (Slot, SocketAddr)>,
    ) -> Self {
        let since = Instant::now();
        let listeners = listeners
            .into_iter()
            .map(|(slot, address)| (slot, (address, Steps::default())))
            .collect();
        Self {
            generation,
            keep,
            waiter,
            next: since,
            flip,
            since,
            interval: FIRST,
            listeners,
            attached: false,
            is_over: false,
        }
    }

    /// Adds a reading of one listener; true if a connection has come to one that was empty.
    pub(crate) fn read(&mut self, slot: Slot, pending: Pending) -> bool {
        let after_ms = self.elapsed_ms();
        let Some((_, steps)) = self.listeners.get_mut(&slot) else {
            return false;
        };
        let was_empty = steps.empty_after_ms().is_some();
        steps.push(after_ms, pending);
        was_empty && pending.queued > 0
    }

    /// Plans the next reading.
    pub(crate) fn again(&mut self, now: Instant) {
        self.next = now + self.interval;
        self.interval = (self.interval * 3 / 2).min(LONGEST);
    }

    /// Plans it as soon as possible.
    pub(crate) fn again_soon(&mut self, now: Instant) {
        self.next = now + FIRST;
    }

    /// The listeners that were watched from the commit on.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.listeners.keys().copied().collect()
    }

    /// Whether every listener was empty at the last reading.
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners
            .values()
            .all(|(_, steps)| steps.empty_after_ms().is_some())
    }

    /// What is pending on all listeners together, by their last readings.
    pub(crate) fn total(&self) -> DrainStep {
        let mut total = DrainStep {
            after_ms: self.elapsed_ms(),
            ..DrainStep::default()
        };
        for (_, steps) in self.listeners.values() {
            if let Some((_, pending)) = steps.readings().last() {
                total.queued += u64::from(pending.queued);
                total.half_open += u64::from(pending.half_open());
            }
        }
        total
    }

    /// What was pending on all listeners together at the first reading after the commit.
    pub(crate) fn at_commit(&self) -> DrainStep {
        let mut total = DrainStep::default();
        for (_, steps) in self.listeners.values() {
            if let Some((_, pending)) = steps.readings().first() {
                total.queued += u64::from(pending.queued);
                total.half_open += u64::from(pending.half_open());
            }
        }
        total
    }

    /// The account of the drain so far.
    pub(crate) fn certificate(&self, end: DrainEnd) -> Certificate {
        let empty = self
            .listeners
            .values()
            .map(|(_, steps)| steps.empty_after_ms());
        let all_empty: Option<Vec<u64>> = empty.collect();
        Certificate {
            flip: self.flip.clone(),
            end,
            drained_after_ms: all_empty.map(|times| times.into_iter().max().unwrap_or(0)),
            listeners: self
                .listeners
                .iter()
                .map(|(slot, (address, steps))| ListenerDrain {
                    slot: synflip_wire::Slot(*slot),
                    endpoint: Endpoint::tcp(*address),
                    steps: steps.readings().iter().map(step).collect(),
                    empty_after_ms: steps.empty_after_ms(),
                })
                .collect(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn step((after_ms, pending): &(u64, Pending)) -> DrainStep {
    DrainStep {
        after_ms: *after_ms,
        queued: u64::from(pending.queued),
        half_open: u64::from(pending.half_open()),
    }
}
