//! What came of the tests on each kernel.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    cases::TestRun,
    tally::{Counts, Outcome},
    vm::{
        console::Story,
        packages::{Kernel, Origin},
    },
};

/// All tests on one kernel.
#[derive(Debug, Serialize)]
pub(crate) struct OnKernel {
    pub(crate) kernel: String,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    pub(crate) accelerator: &'static str,
    pub(crate) lacks: Vec<String>,
    /// By their names.
    pub(crate) tests: Vec<TestRun>,
    /// What went wrong in the machine itself, with traces.
    pub(crate) troubles: Vec<Vec<String>>,
    /// From starting the machine to its end.
    pub(crate) seconds: f64,
}

impl OnKernel {
    /// Judges what was seen of the wanted tests.
    pub(crate) fn judge(
        kernel: &Kernel,
        accelerator: &'static str,
        wanted: &[String],
        story: Story,
        took: Duration,
    ) -> Self {
        let lacks = &kernel.row.lacks;
        Self {
            kernel: kernel.row.name.clone(),
            origin: kernel.origin.clone(),
            accelerator,
            lacks: lacks.clone(),
            tests: judge(wanted, &story, lacks),
            troubles: story.troubles,
            seconds: took.as_secs_f64(),
        }
    }

    /// Everything that failed: tests with what they have said, and traces as they are.
    pub(crate) fn failures(&self) -> Vec<String> {
        let on = |what: String| format!("[{}] {what}", self.kernel);
        let failed = self.tests.iter().filter(|test| test.failed());
        // After a panic they are many, and hide what matters.
        let (missing, failed): (Vec<_>, Vec<_>) =
            failed.partition(|test| test.why.as_deref() == Some(DID_NOT_RUN));
        let failed = failed.iter().map(|test| on(test.shown().join("\n")));
        let missing =
            (!missing.is_empty()).then(|| on(format!("{} tests did not run", missing.len())));
        let troubles = self.troubles.iter();
        let troubles = troubles.map(|trace| on(format!("machine: {}", trace.join("\n    "))));
        failed.chain(missing).chain(troubles).collect()
    }

    /// As one line of the table of all tiers.
    pub(crate) fn outcome(&self) -> Outcome {
        let counts = self.counts();
        Outcome {
            name: format!("vm {}", self.kernel),
            counts,
            success: counts.failed == 0 && self.troubles.is_empty(),
            seconds: self.seconds,
        }
    }

    /// The counts of all tests together.
    pub(crate) fn counts(&self) -> Counts {
        Counts::of(self.tests.iter().map(|test| test.verdict))
    }
}

fn judge(wanted: &[String], story: &Story, lacks: &[String]) -> Vec<TestRun> {
    let progress = &story.progress;
    let mut tests: BTreeMap<&String, TestRun> = BTreeMap::new();
    for (ran, ended) in &progress.ended {
        let test = TestRun::judge(ran.name.clone(), ran.lines.clone(), ended, lacks);
        tests.insert(&ran.name, test);
    }
    for ran in &progress.running {
        let mut test =
            TestRun::unfinished(ran.name.clone(), "the machine ended before this test did");
        test.lines.clone_from(&ran.lines);
        tests.insert(&ran.name, test);
    }
    for name in wanted {
        let did_not = || TestRun::unfinished(name.clone(), DID_NOT_RUN);
        tests.entry(name).or_insert_with(did_not);
    }
    tests.into_values().collect()
}

const DID_NOT_RUN: &str = "did not run";

#[cfg(test)]
mod tests {
    use synflip_exchange::{End, Ended, Event};

    use super::*;

    #[test]
    fn what_did_not_end_well_failed() {
        let mut story = Story::default();
        let job = |name: &str| name.to_owned();
        let ended = |name: &str, end| Event::Ended {
            job: job(name),
            ended: Ended {
                end,
                took: Duration::from_secs(1),
                skipped: None,
                output: None,
            },
        };
        for event in [
            Event::Booted,
            Event::Started { job: job("d") },
            ended("d", End::Ok),
            Event::Started { job: job("c") },
            ended("c", End::Failed { code: 101 }),
            Event::Started { job: job("b") },
        ] {
            story.progress.take(event).unwrap();
        }
        let wanted = ["a", "b", "c", "d"].map(str::to_owned);
        let tests = judge(&wanted, &story, &[]);
        let why: Vec<_> = tests.iter().map(|test| test.why.as_deref()).collect();
        assert_eq!(
            why,
            [
                Some("did not run"),
                Some("the machine ended before this test did"),
                Some("ended with code 101"),
                None,
            ]
        );
        assert_eq!(tests.iter().filter(|test| test.failed()).count(), 3);
    }
}
