//! The record of one drain, and the certificate made from it.

use std::{collections::BTreeMap, time::Instant};

use synflip_plan::Reading;
use synflip_types::{Endpoint, GenerationId, Slot};
use synflip_wire::{Certificate, Committed, DrainEnd, DrainStep, ListenerDrain};

/// What was seen of a drain that somebody waits for.
#[derive(Debug)]
pub(crate) struct DrainRecord {
    /// None if there was nobody to flip away from.
    pub(crate) generation: Option<GenerationId>,
    flip: Committed,
    since: Instant,
    listeners: BTreeMap<Slot, (Endpoint, Steps)>,
}

impl DrainRecord {
    pub(crate) fn new(
        generation: Option<GenerationId>,
        flip: Committed,
        listeners: impl IntoIterator<Item = (Slot, Endpoint)>,
    ) -> Self {
        let listeners = listeners
            .into_iter()
            .map(|(slot, endpoint)| (slot, (endpoint, Steps::default())))
            .collect();
        Self {
            generation,
            flip,
            since: Instant::now(),
            listeners,
        }
    }

    /// Adds what a look has shown, as far as it is of these listeners.
    pub(crate) fn add(&mut self, readings: &[(Slot, Reading)]) {
        let after_ms = self.elapsed_ms();
        for (slot, reading) in readings {
            if let Some((_, steps)) = self.listeners.get_mut(slot)
                && *reading != Reading::Unknown
                && !steps.is_closed
            {
                steps.push(DrainStep {
                    after_ms,
                    queued: reading.queued().into(),
                    half_open: reading.half_open().into(),
                });
            }
        }
    }

    /// A listener has been closed: nothing is pending where nothing is.
    pub(crate) fn closed(&mut self, slot: Slot) {
        self.add(&[(slot, Reading::Gone)]);
        if let Some((_, steps)) = self.listeners.get_mut(&slot) {
            steps.is_closed = true;
        }
    }

    /// What is pending on all listeners together, by their last readings.
    pub(crate) fn total(&self) -> DrainStep {
        let mut total = DrainStep {
            after_ms: self.elapsed_ms(),
            ..DrainStep::default()
        };
        for step in self
            .listeners
            .values()
            .filter_map(|(_, steps)| steps.kept.last())
        {
            total.queued += step.queued;
            total.half_open += step.half_open;
        }
        total
    }

    /// The account of the drain so far.
    pub(crate) fn certificate(&self, end: DrainEnd) -> Certificate {
        let empty = self
            .listeners
            .values()
            .map(|(_, steps)| steps.empty_after_ms);
        let all_empty: Option<Vec<u64>> = empty.collect();
        Certificate {
            flip: self.flip.clone(),
            end,
            drained_after_ms: all_empty.map(|times| times.into_iter().max().unwrap_or(0)),
            listeners: self
                .listeners
                .iter()
                .map(|(slot, (endpoint, steps))| ListenerDrain {
                    slot: *slot,
                    endpoint: *endpoint,
                    steps: steps.kept.clone(),
                    empty_after_ms: steps.empty_after_ms,
                })
                .collect(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The readings of one listener: each that differed from the one before.
#[derive(Debug, Default)]
struct Steps {
    kept: Vec<DrainStep>,
    /// Since when nothing is pending.
    empty_after_ms: Option<u64>,
    /// Whether it is closed: what is read of its slot from here on is another one's.
    is_closed: bool,
}

impl Steps {
    /// Readings kept: the first ones, and always the last.
    const KEPT: usize = 12;

    fn push(&mut self, step: DrainStep) {
        if step.is_empty() {
            self.empty_after_ms.get_or_insert(step.after_ms);
        } else {
            self.empty_after_ms = None;
        }
        let same =
            |last: &DrainStep| (last.queued, last.half_open) == (step.queued, step.half_open);
        if self.kept.last().is_some_and(same) {
            return;
        }
        if self.kept.len() == Self::KEPT {
            self.kept.pop();
        }
        self.kept.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(after_ms: u64, queued: u64) -> DrainStep {
        DrainStep {
            after_ms,
            queued,
            half_open: 0,
        }
    }

    #[test]
    fn steps_keep_changes_the_first_and_the_last() {
        let mut steps = Steps::default();
        for (at, queued) in [(0, 40), (1, 40), (2, 39)] {
            steps.push(step(at, queued));
        }
        assert_eq!(steps.kept, [step(0, 40), step(2, 39)]);
        for (at, queued) in (3..).zip((0..39).rev()) {
            steps.push(step(at, queued));
        }
        assert_eq!(steps.kept.len(), Steps::KEPT);
        assert_eq!(steps.kept.last(), Some(&step(41, 0)));
        assert_eq!(steps.empty_after_ms, Some(41));
    }

    #[test]
    fn what_comes_again_makes_it_not_empty() {
        let mut steps = Steps::default();
        for (at, queued, empty) in [
            (0, 1, None),
            (5, 0, Some(5)),
            (9, 0, Some(5)),
            (12, 2, None),
            (20, 0, Some(20)),
        ] {
            steps.push(step(at, queued));
            assert_eq!(steps.empty_after_ms, empty, "at {at}");
        }
    }
}
