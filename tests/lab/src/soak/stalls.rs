//! Which faults did clients feel most?

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;

use super::{chaos::Injected, plan::Kind};
use synflip_bed::load::{Sample, each_sample};

/// The longest that a client waited for its answer, by the fault that took most of that time:
/// microseconds.
pub(super) fn by_kind(samples: &Path, faults: &[Injected]) -> Result<BTreeMap<Kind, u64>> {
    let mut longest = BTreeMap::new();
    each_sample(samples, |sample| {
        if let Some(kind) = felt(&sample, faults).filter(|_| sample.outcome.is_ok()) {
            let longest = longest.entry(kind).or_default();
            *longest = u64::from(sample.latency_us).max(*longest);
        }
    })?;
    Ok(longest)
}

/// The fault that overlaps most of a connection's life. They are in order, one at a time.
fn felt(sample: &Sample, faults: &[Injected]) -> Option<Kind> {
    let end_us = sample.start_us + u64::from(sample.latency_us);
    let first = faults.partition_point(|fault| fault.ended_us < sample.start_us);
    let met = faults[first..]
        .iter()
        .take_while(|fault| fault.begun_us <= end_us);
    let overlap = |fault: &&Injected| {
        fault
            .ended_us
            .min(end_us)
            .saturating_sub(fault.begun_us.max(sample.start_us))
    };
    Some(met.max_by_key(overlap)?.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use synflip_bed::load::Outcome;

    #[test]
    fn a_stall_belongs_to_the_fault_that_lasted() {
        let fault = |kind, begun_us, ended_us| Injected {
            number: 1,
            kind,
            begun_us,
            ended_us,
        };
        let faults = [fault(Kind::Flip, 100, 110), fault(Kind::Garbage, 120, 200)];
        let felt = |start_us, latency_us| {
            let sample = Sample {
                start_us,
                latency_us,
                outcome: Outcome::Ok,
                generation: 1,
            };
            felt(&sample, &faults)
        };
        assert_eq!(felt(90, 5), None);
        assert_eq!(felt(90, 15), Some(Kind::Flip));
        assert_eq!(felt(103, 20), Some(Kind::Flip));
        assert_eq!(felt(105, 50), Some(Kind::Garbage));
        assert_eq!(felt(112, 5), None);
        assert_eq!(felt(201, 5), None);
    }
}
