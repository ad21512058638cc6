//! What came of the tests, counted.

use std::ops::AddAssign;

use comfy_table::{CellAlignment, Table, presets};

use crate::cases::{TestRun, Verdict};

/// What came of some tests that belong together.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    pub(crate) success: bool,
    pub(crate) seconds: f64,
}

/// Tests that passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    pub(crate) fn of(verdicts: impl Iterator<Item = Verdict>) -> Self {
        let mut counts = Self::default();
        for verdict in verdicts {
            let count = match verdict {
                Verdict::Ok => &mut counts.passed,
                Verdict::Failed => &mut counts.failed,
                Verdict::Skipped => &mut counts.skipped,
            };
            *count += 1;
        }
        counts
    }

    /// Takes in a line of what `cargo test` prints, if it is one of those that count.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for field in result.split(['.', ';']) {
            let Some((count, what)) = field.trim().split_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

impl Outcome {
    /// One for each group of tests.
    pub(crate) fn groups(tier: &str, ran: &[TestRun]) -> Vec<Self> {
        let mut names: Vec<&str> = ran.iter().map(TestRun::group).collect();
        names.sort_unstable();
        names.dedup();
        let of_group = |name: &str| {
            let of_group = || ran.iter().filter(|ran| ran.group() == name);
            Self::of(format!("{tier} {name}"), of_group)
        };
        names.into_iter().map(of_group).collect()
    }

    /// One for all of them, if there are any.
    pub(crate) fn whole(tier: &str, ran: &[TestRun]) -> Option<Self> {
        (!ran.is_empty()).then(|| Self::of(tier.to_owned(), || ran.iter()))
    }

    fn of<'a, I: Iterator<Item = &'a TestRun>>(name: String, ran: impl Fn() -> I) -> Self {
        let counts = Counts::of(ran().map(|ran| ran.verdict));
        Self {
            name,
            counts,
            success: counts.failed == 0,
            seconds: ran().map(|ran| ran.seconds).sum(),
        }
    }
}

/// Prints a line per outcome, and behind them what they are together.
pub(crate) fn print(ran: &[Outcome]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["target", "passed", "failed", "skipped", "seconds", ""]);
    let mut sum = Counts::default();
    for outcome in ran {
        sum += outcome.counts;
        let Counts {
            passed,
            failed,
            skipped,
        } = outcome.counts;
        table.add_row([
            outcome.name.clone(),
            passed.to_string(),
            failed.to_string(),
            skipped.to_string(),
            format!("{:.1}", outcome.seconds),
            // Also what did not build or was killed, where no test is counted.
            if outcome.success {
                String::new()
            } else {
                "FAILED".to_owned()
            },
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{table}\n");
    let Counts {
        passed,
        failed,
        skipped,
    } = sum;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_cargo_test_add_up() {
        let mut counts = Counts::default();
        for line in [
            "test flip ... ok",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            counts.read(line);
        }
        let (passed, failed, skipped) = (counts.passed, counts.failed, counts.skipped);
        assert_eq!((passed, failed, skipped), (7, 3, 1));
    }

    #[test]
    fn tests_are_grouped_by_what_they_are_about() {
        let ran = ["flip::b", "death::a", "flip::c"];
        let ran = ran.map(|name| TestRun::unfinished(name.to_owned(), "no"));
        let outcomes = Outcome::groups("kernel", &ran);
        let names: Vec<_> = outcomes
            .iter()
            .map(|o| (o.name.as_str(), o.counts.failed))
            .collect();
        assert_eq!(names, [("kernel death", 1), ("kernel flip", 2)]);
        assert!(!outcomes[0].success);
    }
}
