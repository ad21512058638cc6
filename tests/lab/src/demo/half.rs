//! One method under the schedule: everything that was seen.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use synflip_bed::{
    Line, Network, Setup,
    load::{Report, Sample},
    network::Samples,
    product::name,
};

use super::{
    drive::{Drain, Finished, Method, Played, drive},
    kill::{self, Kill},
    latency::{Split, Window, split},
    options::Settings,
    plain::Plain,
    schedule::Schedule,
    steered::Steered,
};
use crate::{
    command::{Interrupt, Screen, format},
    generator::Generator,
};

/// The method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// With synflip.
    Steered,
    /// With SO_REUSEPORT alone.
    Plain,
}

/// What was seen of one method.
pub(super) struct Half {
    pub(super) mode: Mode,
    pub(super) report: Report,
    pub(super) latency: Split,
    pub(super) flips: Vec<Flip>,
    pub(super) kills: Vec<Kill>,
    pub(super) counters: Option<Counters>,
    /// What was not as it must be, besides lost connections.
    pub(super) broken: Vec<String>,
}

/// One flip.
pub(super) struct Flip {
    /// The generation that was replaced by the next one.
    pub(super) from: u32,
    /// When it was to be.
    pub(super) at: Duration,
    pub(super) window: Window,
    pub(super) drain: Option<Drain>,
}

/// What the program has counted, of all endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counters {
    pub(super) runs: u64,
    pub(super) selected: u64,
    pub(super) migrated: u64,
    pub(super) no_table: u64,
    pub(super) fell_back: u64,
}

impl Half {
    /// Runs one method from beginning to end, in namespaces of its own.
    pub(super) fn run(
        mode: Mode,
        settings: &Settings,
        schedule: &Schedule,
        screen: &mut Screen,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        screen.line(match mode {
            Mode::Steered => "With synflip:",
            Mode::Plain => "The same restarts with plain SO_REUSEPORT:",
        })?;
        let setup = Setup::new().line(Line::Link(settings.delay));
        let samples = Samples::new()?;
        let mut play = |net: &Network, method: &mut dyn Method| -> Result<_> {
            let config = settings.load(net, &samples);
            let mut load = Generator::start(net, &config, interrupt)?;
            let played = drive(method, &mut load, schedule, settings, screen, interrupt)?;
            Ok((played, load.results()?))
        };
        let (played, mut report, counters, mut broken) = match mode {
            Mode::Steered => {
                let fixture = setup.start()?;
                let mut method = Steered::start(&fixture, settings)?;
                let (played, report) = play(&fixture.net, &mut method)?;
                let (counters, broken) = method.finish(interrupt)?;
                (played, report, Some(counters), broken)
            }
            Mode::Plain => {
                let net = setup.network()?;
                let (played, report) = play(&net, &mut Plain::start(&net, settings)?)?;
                (played, report, None, Vec::new())
            }
        };
        let samples = samples.read()?;
        let Played {
            mut flips,
            mut kills,
        } = played;
        kill::account(&mut kills, &mut report);
        flips.sort_unstable_by_key(|flip| flip.from);
        let windows: Vec<Window> = flips.iter().map(|flip| flip.window).collect();
        if mode == Mode::Steered {
            broken.extend(strays(&samples, &flips));
        }
        Ok(Self {
            mode,
            latency: split(&samples, &windows)?,
            report,
            flips,
            kills,
            counters,
            broken,
        })
    }

    /// Connections that were opened.
    pub(super) fn made(&self) -> u64 {
        self.report.ok + self.report.lost + self.died_in_service()
    }

    /// Connections that died with a server that had accepted them.
    pub(super) fn died_in_service(&self) -> u64 {
        self.kills.iter().map(|kill| kill.died_in_service).sum()
    }

    /// How long each commit took.
    pub(super) fn commit_ms(&self) -> impl Iterator<Item = f64> {
        let drains = self.flips.iter().filter_map(|flip| flip.drain);
        drains.map(|drain| drain.commit_ms)
    }

    /// How long each drain took.
    pub(super) fn drain_ms(&self) -> impl Iterator<Item = f64> {
        let drains = self.flips.iter().filter_map(|flip| flip.drain);
        drains.map(|drain| drain.drain_ms as f64)
    }

    /// What was promised and not kept.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.broken.clone();
        if self.report.lost > 0 {
            problems.push(format!(
                "{} connections were lost",
                format::count(self.report.lost)
            ));
        }
        if self.report.corrupt > 0 {
            problems.push(format!("{} answers were wrong", self.report.corrupt));
        }
        problems
    }
}

/// Looks for connections that were opened after a flip and served by a generation before it.
fn strays(samples: &[Sample], flips: &[Flip]) -> Option<String> {
    let strays = samples.iter().filter(|sample| {
        // The flips are in order, and so are the times by which they had committed.
        let later = flips.partition_point(|flip| flip.from < sample.generation);
        sample.outcome.is_ok()
            && flips
                .get(later)
                .is_some_and(|flip| flip.window.ended_us < sample.start_us)
    });
    let strays = strays.count();
    (strays > 0).then(|| format!("{strays} connections went to a generation after it was drained"))
}

impl Flip {
    pub(super) fn new(finished: Finished, schedule: &Schedule) -> Self {
        let Finished {
            from,
            window,
            drain,
        } = finished;
        let index = usize::try_from(from).unwrap_or(usize::MAX).wrapping_sub(1);
        Self {
            from,
            at: schedule.times().get(index).copied().unwrap_or_default(),
            window,
            drain,
        }
    }

    pub(super) fn old_name(&self) -> String {
        name(self.from)
    }

    pub(super) fn new_name(&self) -> String {
        name(self.from + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synflip_bed::load::Outcome;

    #[test]
    fn a_connection_to_a_drained_generation_is_noticed() {
        let flips: Vec<Flip> = [(1, 1000), (2, 2000)]
            .map(|(from, ended_us)| Flip {
                from,
                at: Duration::ZERO,
                window: Window {
                    begun_us: ended_us - 500,
                    ended_us,
                },
                drain: None,
            })
            .into();
        let served = |start_us, generation| {
            let sample = Sample {
                start_us,
                latency_us: 5000,
                outcome: Outcome::Ok,
                generation,
            };
            strays(&[sample], &flips).is_some()
        };
        assert!(!served(999, 1) && served(1001, 1));
        assert!(!served(1999, 2) && served(2001, 2));
        assert!(!served(9999, 3));
    }
}
