//! What happened to a service: told to the log and kept for `status`.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use synflip_abi::Moment;
use synflip_plan::Happened;
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

    /// Takes down something that happened to a generation, or to the service as a whole.
    pub(crate) fn record(
        &mut self,
        service: &Name,
        generation: Option<&Name>,
        what: &Happened,
    ) -> TimelineEntry {
        let text = text(what);
        let of = generation.unwrap_or(service);
        match what {
            Happened::ProgramGone
            | Happened::NotPublished { .. }
            | Happened::Lacks { .. }
            | Happened::Abandoned { .. }
            | Happened::Outlived { .. }
            | Happened::Held { .. }
            | Happened::GivenUp { .. } => {
                tracing::warn!(%service, generation = %of, "{text}");
            }
            _ => tracing::info!(%service, generation = %of, "{text}"),
        }
        while self.0.len() >= limits::TIMELINE {
            self.0.pop_front();
        }
        let entry = TimelineEntry {
            at_ms: unix_ms(),
            generation: of.clone(),
            what: text,
        };
        self.0.push_back(entry.clone());
        entry
    }

    /// All of them, oldest first.
    pub(crate) fn entries(&self) -> Vec<TimelineEntry> {
        self.0.iter().cloned().collect()
    }
}

/// What happened, for people.
fn text(what: &Happened) -> String {
    match what {
        Happened::Registered { listeners } => format!("registered {listeners} listeners"),
        Happened::Back { listeners } => format!("a process is back with {listeners} listeners"),
        Happened::Ready => "ready".into(),
        Happened::Closed => "a process closed its listeners".into(),
        Happened::Died => "a process is gone".into(),
        Happened::Outlived { listeners } => {
            format!("a process is gone, and others accept from {listeners} listeners that it had")
        }
        Happened::Abandoned { listeners } => {
            format!("its processes have closed {listeners} listeners without saying so")
        }
        Happened::Stuck { endpoint } => format!(
            "nobody accepts from a listener at {}: what is queued there goes to its siblings",
            endpoint.address()
        ),
        Happened::AcceptsAgain { endpoint } => {
            format!("the listener at {} is accepted from again", endpoint.address())
        }
        Happened::Strangers { .. } => "somebody who is not registered listens there too".into(),
        Happened::Working { epoch } => format!("working since epoch {epoch}"),
        Happened::Lacks { endpoint } => format!(
            "has nobody at {}: connections go where they went before",
            endpoint.address()
        ),
        Happened::Refreshed { listeners } => format!("works with {listeners} listeners now"),
        Happened::Draining { queued, half_open } => {
            format!("draining: {queued} queued, {half_open} half-open")
        }
        Happened::ProgramGone => {
            "a member of the reuseport group has replaced or detached the program; attaching it again"
                .into()
        }
        Happened::Drained { kept, after_ms } => {
            let then = if *kept { "; kept for a rollback" } else { "" };
            format!("drained {after_ms} ms after the commit{then}")
        }
        Happened::ClientsGone => "the last of its clients is gone".into(),
        Happened::DeadlinePassed { queued, half_open } => {
            format!("drain deadline passed: {queued} queued, {half_open} half-open left")
        }
        Happened::Retired { force: false } => "retired".into(),
        Happened::Retired { force: true } => "retired by force".into(),
        Happened::Released => "given back to plain SO_REUSEPORT".into(),
        Happened::NotPublished { why } => format!("not published: {why}"),
        Happened::Held { .. } => "nobody accepts any more: the listeners are held open".into(),
        Happened::GivenUp { .. } => "nobody accepts for it; its listeners are closed".into(),
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
