//! What came of the tests on each kernel: judged, and as lines of the table of all tiers.

use std::time::Duration;

use serde::Serialize;

use crate::{
    tally::{Counts, Outcome},
    vm::{
        cases::{Case, Status, cases},
        console::{Ran, Story},
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
    pub(crate) targets: Vec<Target>,
    /// What went wrong in the machine itself, with traces.
    pub(crate) troubles: Vec<Vec<String>>,
    /// From starting a machine to its end; of several, together.
    pub(crate) seconds: f64,
}

/// One test target on one kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) cases: Vec<Case>,
    /// Why it counts as failed.
    pub(crate) failures: Vec<String>,
    pub(crate) seconds: f64,
}

impl OnKernel {
    /// Judges what was seen of the wanted targets.
    pub(crate) fn judge(
        kernel: &Kernel,
        accelerator: &'static str,
        wanted: &[String],
        story: Story,
        took: Duration,
    ) -> Self {
        let target = |name: &String| {
            let ran = story.jobs.iter().find(|ran| ran.name == *name);
            Target::judge(name, ran, &kernel.row.lacks)
        };
        Self {
            kernel: kernel.row.name.clone(),
            origin: kernel.origin.clone(),
            accelerator,
            lacks: kernel.row.lacks.clone(),
            targets: wanted.iter().map(target).collect(),
            troubles: story.troubles,
            seconds: took.as_secs_f64(),
        }
    }

    /// Adds what another machine with the same kernel has seen.
    pub(crate) fn join(&mut self, other: Self) {
        self.targets.extend(other.targets);
        self.targets.sort_by(|a, b| a.name.cmp(&b.name));
        self.troubles.extend(other.troubles);
        self.seconds += other.seconds;
    }

    /// Everything that failed, a line each, and traces as they are.
    pub(crate) fn failures(&self) -> Vec<String> {
        let of_target = |target: &Target| {
            let line = |why: &String| format!("{} {}: {why}", self.kernel, target.name);
            target.failures.iter().map(line).collect::<Vec<_>>()
        };
        let mut failures: Vec<String> = self.targets.iter().flat_map(of_target).collect();
        for trouble in &self.troubles {
            failures.push(format!(
                "{} machine: {}",
                self.kernel,
                trouble.join("\n    ")
            ));
        }
        failures
    }

    /// A line for each target, and one for the machine if that is what failed.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |name: &str, counts, success, seconds| Outcome {
            name: format!("vm {} {name}", self.kernel),
            counts,
            success,
            took: Duration::from_secs_f64(seconds),
        };
        let of_target = |target: &Target| {
            outcome(
                &target.name,
                target.counts(),
                target.failures.is_empty(),
                target.seconds,
            )
        };
        let mut outcomes: Vec<Outcome> = self.targets.iter().map(of_target).collect();
        if !self.troubles.is_empty() {
            outcomes.push(outcome("machine", Counts::default(), false, self.seconds));
        }
        outcomes
    }

    /// The counts of all targets together.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for target in &self.targets {
            let counts = target.counts();
            sum.passed += counts.passed;
            sum.failed += counts.failed;
            sum.skipped += counts.skipped;
        }
        sum
    }
}

impl Target {
    fn judge(name: &str, ran: Option<&Ran>, lacks: &[String]) -> Self {
        let Some(ran) = ran else {
            return Self {
                name: name.to_owned(),
                cases: Vec::new(),
                failures: vec!["did not run".to_owned()],
                seconds: 0.0,
            };
        };
        let cases = cases(&ran.lines);
        let mut failures = Vec::new();
        match ran.end.as_deref() {
            Some("ok") => {}
            Some("deadline") => failures.push(format!(
                "killed after {:.0} s, its deadline in vm-images/kernels.toml",
                ran.took.as_secs_f64()
            )),
            Some(end) => failures.push(format!("ended with {end}")),
            None => failures.push("the machine ended before it".to_owned()),
        }
        if cases.is_empty() {
            failures.push("ran no test".to_owned());
        }
        for case in &cases {
            match (case.status, &case.skipped) {
                (Status::Failed, _) => failures.push(format!("{} failed", case.name)),
                (Status::Unfinished, _) => failures.push(format!("{} did not end", case.name)),
                (Status::Skipped, Some(why)) if !is_declared(why, lacks) => failures.push(format!(
                    "{} skipped itself ({why}), which vm-images/kernels.toml does not declare",
                    case.name
                )),
                _ => {}
            }
        }
        Self {
            name: name.to_owned(),
            cases,
            failures,
            seconds: ran.took.as_secs_f64(),
        }
    }

    /// How many of its tests ended how.
    pub(crate) fn counts(&self) -> Counts {
        let count = |wanted: &[Status]| {
            self.cases
                .iter()
                .filter(|case| wanted.contains(&case.status))
                .count()
        };
        Counts {
            passed: count(&[Status::Ok]),
            failed: count(&[Status::Failed, Status::Unfinished]),
            skipped: count(&[Status::Skipped]),
        }
    }
}

/// Whether a test may skip itself for a reason: `needs CAPABILITY`, and the kernel lacks it.
fn is_declared(why: &str, lacks: &[String]) -> bool {
    let needed = why
        .strip_prefix("needs ")
        .and_then(|rest| rest.split(' ').next());
    needed.is_some_and(|needed| lacks.iter().any(|lacking| lacking == needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(end: Option<&str>, lines: &str) -> Ran {
        Ran {
            name: "flip".into(),
            lines: lines.lines().map(str::to_owned).collect(),
            end: end.map(str::to_owned),
            took: Duration::from_secs(3),
            ..Ran::default()
        }
    }

    #[test]
    fn a_skip_fails_unless_it_is_declared() {
        let netem = ran(Some("ok"), "test a ... skipped: needs netem (declared)\nok");
        let target = Target::judge("flip", Some(&netem), &["netem".to_owned()]);
        assert!(target.failures.is_empty(), "{:?}", target.failures);
        assert_eq!(target.counts().skipped, 1);
        for (why, lacks) in [
            ("needs netem", "migration"),
            ("needs root", "netem"),
            ("", ""),
        ] {
            let lines = format!("test a ... skipped: {why}\nok");
            let target = Target::judge("flip", Some(&ran(Some("ok"), &lines)), &[lacks.to_owned()]);
            assert!(
                target.failures[0].contains("does not declare"),
                "{:?}",
                target.failures
            );
        }
    }

    #[test]
    fn what_did_not_end_well_failed() {
        let failures = |ran: Option<&Ran>| Target::judge("flip", ran, &[]).failures;
        assert_eq!(failures(None), ["did not run"]);
        assert_eq!(failures(Some(&ran(Some("ok"), "test a ... ok"))), [""; 0]);
        assert_eq!(failures(Some(&ran(Some("ok"), ""))), ["ran no test"]);
        let killed = failures(Some(&ran(Some("deadline"), "test a ... ok\ntest b ... ")));
        assert!(killed[0].contains("killed after 3 s"), "{killed:?}");
        assert_eq!(killed[1], "b did not end");
        let failed = failures(Some(&ran(Some("exit:101"), "test a ... FAILED")));
        assert_eq!(failed, ["ended with exit:101", "a failed"]);
    }
}
