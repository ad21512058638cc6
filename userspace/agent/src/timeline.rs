//! What happened to a service: told to the log and kept for `status`.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use synflip_abi::Moment;
use synflip_wire::{Name, TimelineEntry};

use crate::limits;

/// The last things that happened. `synflip-bpf` keeps them for the agent that comes after.
#[derive(Debug, Default)]
pub(crate) struct Timeline(VecDeque<TimelineEntry>);

impl Timeline {
    /// What an earlier agent has noted.
    pub(crate) fn of(moments: &[Moment]) -> Self {
        let entry = |moment: &Moment| {
            Some(TimelineEntry {
                at_ms: moment.at_ms,
                generation: moment.generation()?.parse().ok()?,
                what: moment.text()?.to_owned(),
            })
        };
        Self(moments.iter().filter_map(entry).collect())
    }

    /// Notes something that happened to a generation, and returns the entry.
    pub(crate) fn note(
        &mut self,
        service: &Name,
        generation: &Name,
        what: impl Into<String>,
    ) -> TimelineEntry {
        let what = what.into();
        tracing::info!(%service, %generation, "{what}");
        while self.0.len() >= limits::TIMELINE {
            self.0.pop_front();
        }
        let entry = TimelineEntry {
            at_ms: unix_ms(),
            generation: generation.clone(),
            what,
        };
        self.0.push_back(entry.clone());
        entry
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
