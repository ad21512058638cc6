//! Which latencies are those of a flip?

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use synflip_bed::load::{Latency, Sample};

/// From the beginning of a flip to its end: microseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) begun_us: u64,
    pub(super) ended_us: u64,
}

/// Latencies of the answered connections; none where there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) steady: Option<Latency>,
    pub(super) flip: Option<Latency>,
}

/// Divides the samples: one belongs to a flip if any of its life is between its beginning and a
/// moment after its end.
pub(super) fn split(samples: &[Sample], windows: &[Window]) -> Result<Split> {
    let windows = merged(windows.iter().map(|window| Window {
        ended_us: window.ended_us + AFTER_US,
        ..*window
    }));
    let mut steady = histogram()?;
    let mut flip = histogram()?;
    for sample in samples.iter().filter(|sample| sample.outcome.is_ok()) {
        let end = sample.start_us + u64::from(sample.latency_us);
        let first = windows.partition_point(|window| window.ended_us < sample.start_us);
        let met = windows
            .get(first)
            .is_some_and(|window| window.begun_us <= end);
        let histogram = if met { &mut flip } else { &mut steady };
        histogram.saturating_record(sample.latency_us.into());
    }
    Ok(Split {
        steady: summary(&steady),
        flip: summary(&flip),
    })
}

/// The windows in order, those that overlap as one.
fn merged(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut sorted: Vec<Window> = windows.collect();
    sorted.sort_unstable_by_key(|window| window.begun_us);
    let mut merged: Vec<Window> = Vec::new();
    for window in sorted {
        match merged.last_mut() {
            Some(last) if window.begun_us <= last.ended_us => {
                last.ended_us = last.ended_us.max(window.ended_us);
            }
            _ => merged.push(window),
        }
    }
    merged
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(u32::MAX.into(), 3).context("make a histogram")
}

fn summary(histogram: &Histogram<u64>) -> Option<Latency> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    (!histogram.is_empty()).then(|| Latency {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max(),
    })
}

/// How long a flip is felt after its end, at most.
const AFTER_US: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use synflip_bed::load::Outcome;

    fn sample(start_us: u64, latency_us: u32) -> Sample {
        Sample {
            start_us,
            latency_us,
            outcome: Outcome::Ok,
            generation: 1,
        }
    }

    fn window(begun_us: u64, ended_us: u64) -> Window {
        let ended_us = ended_us - AFTER_US;
        Window { begun_us, ended_us }
    }

    #[test]
    fn any_overlap_makes_a_sample_part_of_a_flip() {
        let windows = [
            window(500_000, 600_000),
            window(100_000, 200_000),
            window(150_000, 300_000),
        ];
        let of_flip = [
            (99_900, 100),
            (99_999, 600_000),
            (299_999, 1),
            (300_000, 10),
        ];
        let steady = [(0, 99_999), (300_001, 199_998), (600_001, 7)];
        for (start, latency) in of_flip {
            let split = split(&[sample(start, latency)], &windows).unwrap();
            assert_eq!(split.steady, None, "{start}");
            assert!(split.flip.is_some(), "{start}");
        }
        for (start, latency) in steady {
            let split = split(&[sample(start, latency)], &windows).unwrap();
            assert_eq!(split.flip, None, "{start}");
            assert!(split.steady.is_some(), "{start}");
        }
    }

    #[test]
    fn a_flip_is_felt_a_little_longer_than_it_takes() {
        let flip = Window {
            begun_us: 1000,
            ended_us: 2000,
        };
        let split = |start| split(&[sample(start, 1)], &[flip]).unwrap();
        assert!(split(2000 + AFTER_US).flip.is_some());
        assert!(split(2001 + AFTER_US).flip.is_none());
    }

    #[test]
    fn lost_connections_have_no_latency() {
        let mut lost = sample(0, 10);
        lost.outcome = Outcome::Reset;
        assert_eq!(split(&[lost], &[]).unwrap(), Split::default());
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let samples: Vec<Sample> = (1..=1000).map(|latency| sample(0, latency)).collect();
        let latency = split(&samples, &[]).unwrap().steady.unwrap();
        assert_eq!((latency.p50, latency.p99, latency.max), (500, 990, 1000));
    }
}
