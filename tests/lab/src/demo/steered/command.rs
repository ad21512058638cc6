//! `synflip flip`, as an operator runs it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::{Context as _, Result, bail};

use crate::demo::{
    drive::{Drain, Finished},
    latency::Window,
};
use synflip_bed::{
    load::monotonic_us,
    product::{Agent, Drained},
};

/// A `synflip flip` that runs; killed when dropped.
pub(super) struct Command {
    child: Child,
    to: u32,
    begun_us: u64,
    output: PathBuf,
}

impl Command {
    /// Begins to flip to a generation.
    pub(super) fn start(agent: &Agent, dir: &Path, to: u32) -> Result<Self> {
        let name = format!("gen{to}");
        // Files rather than pipes: nobody reads before the end.
        let output = dir.join(format!("flip-{to}"));
        let mut command = agent.command(&["flip", "--to", &name, "--json"])?;
        command
            .stdout(File::create(&output)?)
            .stderr(File::create(output.with_extension("err"))?);
        let begun_us = monotonic_us();
        Ok(Self {
            child: command.spawn().context("run synflip flip")?,
            to,
            begun_us,
            output,
        })
    }

    /// Whether it has ended, one way or another.
    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// The flip, if it is over.
    pub(super) fn poll(&mut self) -> Result<Option<Finished>> {
        let Some(status) = self.child.try_wait().context("look after synflip flip")? else {
            return Ok(None);
        };
        let ended_us = monotonic_us();
        let output = fs::read_to_string(&self.output)?;
        if !status.success() {
            let errors = fs::read_to_string(self.output.with_extension("err"))?;
            bail!(
                "synflip flip --to gen{}: {status}: {output}{errors}",
                self.to
            );
        }
        let drained: Drained = serde_json::from_str(&output).context("read flip --json")?;
        let certificate = drained.drain.context("flip --json has no certificate")?;
        let first = |listener: &synflip_wire::ListenerDrain| listener.steps.first().copied();
        let steps = certificate.listeners.iter().filter_map(first);
        let (queued, half_open) = steps.fold((0, 0), |(queued, half_open), step| {
            (queued + step.queued, half_open + step.half_open)
        });
        Ok(Some(Finished {
            from: self.to - 1,
            window: Window {
                begun_us: self.begun_us,
                ended_us,
            },
            drain: Some(Drain {
                commit_ms: drained.flip.commit_ms,
                drain_ms: certificate
                    .drained_after_ms
                    .context("a drained generation without a time")?,
                queued,
                half_open,
            }),
        }))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
