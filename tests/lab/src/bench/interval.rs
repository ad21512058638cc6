//! How sure is a ratio?

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::Serialize;

/// A value and the bounds that hold it with a probability of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// The median, and between which two of the values it is: whatever their distribution.
    ///
    /// How many of them are below the median is binomial with a half. None of none.
    pub(super) fn median(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let spread = Z * (count as f64).sqrt();
        let is_below = |rank: &usize| 2.0 * *rank as f64 <= count as f64 - spread;
        let below = (1..=count).take_while(is_below).count().max(1);
        let last = count.checked_sub(1)?;
        Some(Self {
            value: (sorted[last / 2] + sorted[count / 2]) / 2.0,
            low: sorted[(below - 1).min(last)],
            high: sorted[last - (below - 1).min(last)],
        })
    }

    /// The ratio of two sums, and how it varies when the pairs are drawn again, with replacement
    /// (the bootstrap). None of none.
    pub(super) fn ratio(pairs: &[(f64, f64)]) -> Option<Self> {
        let of = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
            let (above, below) =
                pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            above / below
        };
        if pairs.is_empty() {
            return None;
        }
        // The same pairs have the same interval.
        let mut random = SmallRng::seed_from_u64(1);
        let mut drawn: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let pick = (0..pairs.len()).map(|_| pairs[random.random_range(0..pairs.len())]);
                of(&mut pick.collect::<Vec<_>>().into_iter())
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        Some(Self {
            value: of(&mut pairs.iter().copied()),
            low: drawn[DRAWS / 40],
            high: drawn[DRAWS - 1 - DRAWS / 40],
        })
    }
}

/// 95 % of a normal distribution are within so many standard deviations.
const Z: f64 = 1.96;
const DRAWS: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_bounds() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let median = Interval::median(&values).unwrap();
        // The binomial distribution's own quantiles for 200: ranks 86 and 115.
        assert_eq!(median.value, 100.5);
        assert_eq!((median.low, median.high), (86.0, 115.0));
        let one = Interval::median(&[7.0]).unwrap();
        assert_eq!((one.low, one.value, one.high), (7.0, 7.0, 7.0));
        assert_eq!(Interval::median(&[]), None);
    }

    #[test]
    fn the_bounds_of_a_ratio_hold_it() {
        let pairs: Vec<(f64, f64)> = (0..400)
            .map(|n| (98.0 + f64::from(n % 7), 100.0 + f64::from(n % 5)))
            .collect();
        let ratio = Interval::ratio(&pairs).unwrap();
        assert!(
            ratio.low < ratio.value && ratio.value < ratio.high,
            "{ratio:?}"
        );
        assert!(ratio.high - ratio.low < 0.02, "{ratio:?}");
        assert_eq!(Interval::ratio(&[]), None);
    }
}
