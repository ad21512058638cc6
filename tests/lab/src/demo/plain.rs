//! Generations replaced as it is done without synflip: the new server listens beside the old one,
//! which is told to end, closes its listeners at once and finishes what it has accepted.

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use synflip_bed::{Network, kills::Death, load::monotonic_us, product::Generation};
use synflip_wire::Phase;

use super::{
    drive::{Finished, Method},
    kill::Victim,
    latency::Window,
    options::Settings,
};

/// Servers with nothing but SO_REUSEPORT.
pub(super) struct Plain<'a> {
    current: Generation,
    ending: Vec<Ending>,
    killed: Vec<Finished>,
    net: &'a Network,
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
    pub(super) fn start(net: &'a Network, settings: &'a Settings) -> Result<Self> {
        Ok(Self {
            current: launch(net, settings, 1)?,
            ending: Vec::new(),
            killed: Vec::new(),
            net,
            settings,
        })
    }
}

impl Method for Plain<'_> {
    fn begin(&mut self, to: u32, kill: Option<Victim>) -> Result<Option<(Phase, Death)>> {
        let new = launch(self.net, self.settings, to)?;
        let server = std::mem::replace(&mut self.current, new);
        let (number, begun_us) = (to - 1, monotonic_us());
        if kill.is_some() {
            let death = server.kill()?;
            self.killed.push(finished(number, begun_us));
            // Nobody has told it anything.
            return Ok(death.map(|death| (Phase::Working, death)));
        }
        server.signal(Signal::TERM)?;
        self.ending.push(Ending {
            server,
            number,
            begun_us,
        });
        Ok(None)
    }

    fn may_begin(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn finished(&mut self) -> Result<Vec<Finished>> {
        let mut all = std::mem::take(&mut self.killed);
        let ended = self.ending.extract_if(.., |old| old.server.has_ended());
        all.extend(ended.map(|old| finished(old.number, old.begun_us)));
        Ok(all)
    }

    fn unfinished(&self) -> usize {
        self.ending.len() + self.killed.len()
    }

    fn undrained(&self) -> &'static str {
        "the old server closed at once"
    }
}

fn finished(from: u32, begun_us: u64) -> Finished {
    Finished {
        from,
        window: Window {
            begun_us,
            ended_us: monotonic_us(),
        },
        drain: None,
    }
}

fn launch(net: &Network, settings: &Settings, number: u32) -> Result<Generation> {
    let server = net.plain(&settings.spec(net, number));
    server.context("start a plain server")
}
