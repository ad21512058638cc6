//! The accounts of a run.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Outcome;

/// What became of all connections of a run: `ok + lost` were opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Answered in full.
    pub ok: u64,
    /// `reset + refused + timeout`.
    pub lost: u64,
    /// Cut off after the handshake.
    pub reset: u64,
    /// Nobody listened.
    pub refused: u64,
    /// `connect_timeout + stalled`.
    pub timeout: u64,
    /// A handshake, but no answer in time.
    pub stalled: u64,
    /// No handshake in time.
    pub connect_timeout: u64,
    /// Wrong answers, which are a bug of the server; also among `reset`.
    pub corrupt: u64,
    /// Arrivals of the open loop which found too many in flight; never opened.
    pub overrun: u64,
    /// How long connections were opened.
    pub seconds: f64,
    /// `ok` per second.
    pub per_second: f64,
    /// `ok` by the generation that answered.
    pub by_generation: BTreeMap<u32, u64>,
    /// From connecting to the last byte, of those that are `ok`.
    pub latency_us: Latency,
    /// When the slowest of those was opened: see [`monotonic_us`](super::monotonic_us).
    pub slowest_opened_us: u64,
    /// How late the open loop itself was at worst, in microseconds.
    pub lag_us: u64,
    /// Failures of the generator's own host; a run with any proves nothing.
    pub local_errors: LocalErrors,
    /// Those that are lost, one by one, in the order they ended.
    pub losses: Vec<Loss>,
    /// How many more were lost than are listed.
    pub losses_left_out: u64,
}

/// A connection that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The client's address, if it came as far as to have one.
    pub client: Option<SocketAddr>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was opened: see [`monotonic_us`](super::monotonic_us).
    pub opened_us: u64,
    /// When the client noticed its end, of the same clock.
    pub ended_us: u64,
}

/// Latency in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The worst.
    pub max: u64,
}

/// Connections which could not be opened for a reason on the client's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalErrors {
    /// How many.
    pub count: u64,
    /// The text of the first.
    pub first: Option<String>,
}

/// The counts in the middle of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Answered so far.
    pub ok: u64,
    /// Lost so far.
    pub lost: u64,
    /// Time since the start.
    pub seconds: f64,
}

/// Counts while a run goes on.
pub(super) struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    latency: Histogram<u64>,
    /// How slow the slowest was, and when it was opened.
    slowest: (Duration, u64),
    by_generation: BTreeMap<u32, u64>,
    pub(super) corrupt: u64,
    pub(super) overrun: u64,
    pub(super) lag: Duration,
    pub(super) local_errors: LocalErrors,
    losses: Vec<Loss>,
    losses_left_out: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            outcomes: [0; Outcome::ALL.len()],
            latency: Histogram::new_with_max(LONGEST_US, 3).context("make a histogram")?,
            slowest: (Duration::ZERO, 0),
            by_generation: BTreeMap::new(),
            corrupt: 0,
            overrun: 0,
            lag: Duration::ZERO,
            local_errors: LocalErrors::default(),
            losses: Vec::new(),
            losses_left_out: 0,
        })
    }

    pub(super) fn count(
        &mut self,
        opened_us: u64,
        outcome: Outcome,
        latency: Duration,
        generation: u32,
    ) {
        self.outcomes[outcome as usize] += 1;
        if outcome.is_ok() {
            self.slowest = self.slowest.max((latency, opened_us));
            self.latency.saturating_record(micros(latency));
            *self.by_generation.entry(generation).or_default() += 1;
        }
    }

    pub(super) fn lost(&mut self, loss: Loss) {
        if self.losses.len() < LISTED {
            self.losses.push(loss);
        } else {
            self.losses_left_out += 1;
        }
    }

    pub(super) fn local_error(&mut self, doing: &str, error: &io::Error) {
        self.local_errors.count += 1;
        self.local_errors
            .first
            .get_or_insert_with(|| format!("{doing}: {error}"));
    }

    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        let ok = self.outcomes[Outcome::Ok as usize];
        let lost = self.outcomes.iter().sum::<u64>() - ok;
        Progress {
            ok,
            lost,
            seconds: elapsed.as_secs_f64(),
        }
    }

    pub(super) fn report(self, opening: Duration) -> Report {
        let [ok, refused, reset, connect_timeout, stalled] = self.outcomes;
        let timeout = connect_timeout + stalled;
        let seconds = opening.as_secs_f64();
        let at = |quantile| self.latency.value_at_quantile(quantile);
        Report {
            ok,
            lost: reset + refused + timeout,
            reset,
            refused,
            timeout,
            stalled,
            connect_timeout,
            corrupt: self.corrupt,
            overrun: self.overrun,
            seconds,
            per_second: if seconds > 0.0 {
                ok as f64 / seconds
            } else {
                0.0
            },
            latency_us: Latency {
                p50: at(0.5),
                p99: at(0.99),
                p999: at(0.999),
                max: self.latency.max(),
            },
            slowest_opened_us: self.slowest.1,
            by_generation: self.by_generation,
            lag_us: micros(self.lag),
            local_errors: self.local_errors,
            losses: self.losses,
            losses_left_out: self.losses_left_out,
        }
    }
}

impl Report {
    /// Takes a connection out of those that are lost: it is accounted for elsewhere.
    pub(crate) fn set_apart(&mut self, outcome: Outcome) {
        let kinds: &mut [&mut u64] = match outcome {
            Outcome::Ok => return,
            Outcome::Refused => &mut [&mut self.refused],
            Outcome::Reset => &mut [&mut self.reset],
            Outcome::ConnectTimeout => &mut [&mut self.timeout, &mut self.connect_timeout],
            Outcome::Stalled => &mut [&mut self.timeout, &mut self.stalled],
        };
        for count in kinds.iter_mut() {
            **count = count.saturating_sub(1);
        }
        self.lost = self.lost.saturating_sub(1);
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

/// Where latencies are cut off: ten minutes, beyond any timeout in use.
const LONGEST_US: u64 = 600_000_000;
/// A run that loses more than so many has told enough.
const LISTED: usize = 10_000;
