//! What happened to a service: told to the log and kept for `status`.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use synflip_wire::{Name, TimelineEntry};

use crate::limits;

/// The last things that happened.
#[derive(Debug, Default)]
pub(crate) struct Timeline(VecDeque<TimelineEntry>);

impl Timeline {
    /// Notes something that happened to a generation.
    pub(crate) fn note(&mut self, service: &Name, generation: &Name, what: impl Into<String>) {
        let what = what.into();
        tracing::info!(%service, %generation, "{what}");
        if self.0.len() == limits::TIMELINE {
            self.0.pop_front();
        }
        self.0.push_back(TimelineEntry {
            at_ms: unix_ms(),
            generation: generation.clone(),
            what,
        });
    }

    /// All of them, oldest first.
    pub(crate) fn entries(&self) -> Vec<TimelineEntry> {
        self.0.iter().cloned().collect()
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
