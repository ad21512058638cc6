//! When is each flip?
//!
//! At random times: clients of a closed loop fall into step with a fixed period, and then report
//! no loss where there is one. From a seed: the baseline makes the same restarts, and a run can
//! be made again.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// The times of the flips, from the beginning of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule(Vec<Duration>);

impl Schedule {
    /// Spreads `flips` over a run; none if they do not fit.
    pub(super) fn new(seed: u64, flips: u32, run: Duration) -> Option<Self> {
        let slack = run.checked_sub(shortest(flips))?;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut times: Vec<Duration> = (0..flips)
            .map(|_| slack.mul_f64(rng.random::<f64>()))
            .collect();
        times.sort_unstable();
        for (time, index) in times.iter_mut().zip(0..) {
            *time += LEAD + GAP * index;
        }
        Some(Self(times))
    }

    /// When they are, in order.
    pub(super) fn times(&self) -> &[Duration] {
        &self.0
    }
}

/// The shortest run that so many flips fit into.
pub(super) fn shortest(flips: u32) -> Duration {
    LEAD + GAP * flips.saturating_sub(1) + TAIL
}

/// Load before the first flip.
const LEAD: Duration = Duration::from_millis(400);
/// From one flip to the next, at least: a new server has to start, and the flip to commit.
const GAP: Duration = Duration::from_millis(200);
/// Load after the last flip.
pub(super) const TAIL: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_spaced_and_inside_the_run() {
        let run = Duration::from_secs(12);
        for seed in 0..100 {
            let schedule = Schedule::new(seed, 20, run).unwrap();
            let times = schedule.times();
            assert_eq!(times.len(), 20);
            assert!(times[0] >= LEAD);
            assert!(times[19] + TAIL <= run);
            assert!(times.windows(2).all(|two| two[1] - two[0] >= GAP));
        }
    }

    #[test]
    fn a_seed_means_one_schedule() {
        let of = |seed| Schedule::new(seed, 10, Duration::from_secs(12));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn flips_that_do_not_fit_are_refused() {
        assert!(Schedule::new(1, 2, Duration::from_secs(1)).is_some());
        assert!(Schedule::new(1, 3, Duration::from_secs(1)).is_none());
        assert_eq!(
            Schedule::new(1, 3, shortest(3)).unwrap().times().len(),
            3,
            "exactly"
        );
        assert!(Schedule::new(1, 0, Duration::from_secs(1)).is_some());
    }
}
