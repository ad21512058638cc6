//! One clock for all processes of a host.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::report::micros;

/// Microseconds of CLOCK_MONOTONIC: the clock of samples, losses and kills.
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// Tells the same of moments that this process has noted otherwise.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    started_us: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        // The two readings must be of the same moment, or they are made again.
        let mut clock = Self::read();
        for _ in 0..TRIES {
            if clock.started.elapsed() < CLOSE {
                break;
            }
            clock = Self::read();
        }
        clock
    }

    fn read() -> Self {
        Self {
            started: Instant::now(),
            started_us: monotonic_us(),
        }
    }

    /// A moment after this was made.
    pub(super) fn us(&self, moment: Instant) -> u64 {
        self.started_us + micros(moment.saturating_duration_since(self.started))
    }
}

const TRIES: usize = 100;
const CLOSE: Duration = Duration::from_micros(5);
