//! Generations replaced as it is done without synflip: the new server listens beside the old one,
//! which is told to end, closes its listeners at once and finishes what it has accepted.

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    drive::{Finished, Method},
    latency::Window,
    options::Settings,
    stage::Stage,
};
use crate::{
    load::monotonic_us,
    product::{Generation, Spec},
};

/// Servers with nothing but SO_REUSEPORT.
pub(super) struct Plain<'a> {
    current: Generation,
    ending: Vec<Ending>,
    stage: &'a Stage,
    settings: &'a Settings,
}

/// A server that has been told to end.
struct Ending {
    server: Generation,
    number: u32,
    begun_us: u64,
}

impl<'a> Plain<'a> {
    /// Starts the first generation.
    pub(super) fn start(stage: &'a Stage, settings: &'a Settings) -> Result<Self> {
        Ok(Self {
            current: launch(stage, settings, 1)?,
            ending: Vec::new(),
            stage,
            settings,
        })
    }
}

impl Method for Plain<'_> {
    fn begin(&mut self, to: u32) -> Result<()> {
        let new = launch(self.stage, self.settings, to)?;
        let server = std::mem::replace(&mut self.current, new);
        let begun_us = monotonic_us();
        server.signal(Signal::TERM)?;
        self.ending.push(Ending {
            server,
            number: to - 1,
            begun_us,
        });
        Ok(())
    }

    fn may_begin(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn finished(&mut self) -> Result<Vec<Finished>> {
        let ended = self.ending.extract_if(.., |old| old.server.has_ended());
        Ok(ended
            .map(|old| Finished {
                from: old.number,
                window: Window {
                    begun_us: old.begun_us,
                    ended_us: monotonic_us(),
                },
                drain: None,
            })
            .collect())
    }

    fn unfinished(&self) -> usize {
        self.ending.len()
    }
}

fn launch(stage: &Stage, settings: &Settings, number: u32) -> Result<Generation> {
    let spec = Spec::new(number, stage.address(), settings.listeners_of(number));
    Generation::start_plain(&stage.server, &spec).context("start a plain server")
}
