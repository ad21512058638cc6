//! `synflip flip`, as an operator runs it.

use anyhow::{Context as _, Result};
use synflip_bed::{
    load::monotonic_us,
    product::{Agent, Running, name},
};

use crate::demo::{
    drive::{Drain, Finished},
    latency::Window,
};

/// A `synflip flip` that runs; killed when dropped.
pub(super) struct Command {
    running: Running,
    to: u32,
    begun_us: u64,
}

impl Command {
    /// Begins to flip to a generation.
    pub(super) fn start(agent: &Agent, to: u32) -> Result<Self> {
        Ok(Self {
            begun_us: monotonic_us(),
            running: agent.begin_flip(&name(to))?,
            to,
        })
    }

    /// Whether it has ended, one way or another.
    pub(super) fn has_ended(&mut self) -> bool {
        self.running.has_ended()
    }

    /// The flip, once it has ended.
    pub(super) fn finish(self) -> Result<Finished> {
        let (to, begun_us, ended_us) = (self.to, self.begun_us, monotonic_us());
        let drained = self.running.drained();
        let drained = drained.with_context(|| format!("flip to gen{to}"))?;
        let certificate = drained.drain.context("flip --json has no certificate")?;
        let first = |listener: &synflip_wire::ListenerDrain| listener.steps.first().copied();
        let steps = certificate.listeners.iter().filter_map(first);
        let (queued, half_open) = steps.fold((0, 0), |(queued, half_open), step| {
            (queued + step.queued, half_open + step.half_open)
        });
        Ok(Finished {
            from: to - 1,
            window: Window { begun_us, ended_us },
            drain: Some(Drain {
                commit_ms: drained.flip.commit_ms,
                drain_ms: certificate
                    .drained_after_ms
                    .context("a drained generation without a time")?,
                queued,
                half_open,
            }),
        })
    }
}
