//! What came of the tests, counted.

use std::{collections::BTreeMap, ops::AddAssign, process::ExitCode};

use anyhow::Error;
use comfy_table::{CellAlignment, Row, Table, presets};

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
    fn of(name: String, ran: &[&TestRun]) -> Self {
        let counts = Counts::of(ran.iter().map(|ran| ran.verdict));
        Self {
            name,
            counts,
            success: counts.failed == 0,
            seconds: ran.iter().map(|ran| ran.seconds).sum(),
        }
    }
}

/// What came of the tiers.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    /// What failed, and what it has said.
    pub(crate) failures: Vec<String>,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcomes: vec![outcome],
            failures: Vec::new(),
        }
    }
}

impl Report {
    /// Of the tests of a tier, with one outcome for each group of them.
    pub(crate) fn groups(tier: &str, ran: &[TestRun]) -> Self {
        let mut groups: BTreeMap<&str, Vec<&TestRun>> = BTreeMap::new();
        for test in ran {
            groups.entry(test.group()).or_default().push(test);
        }
        let outcome = |(group, ran): (&str, Vec<_>)| {
            Outcome::of(format!("{tier} {group}").trim_end().to_owned(), &ran)
        };
        Self {
            outcomes: groups.into_iter().map(outcome).collect(),
            failures: failures(ran),
        }
    }

    /// Of the tests of a tier, with one outcome for all of them, if there are any.
    pub(crate) fn whole(tier: &str, ran: &[TestRun]) -> Self {
        let all: Vec<_> = ran.iter().collect();
        let outcome = (!ran.is_empty()).then(|| Outcome::of(tier.to_owned(), &all));
        Self {
            outcomes: outcome.into_iter().collect(),
            failures: failures(ran),
        }
    }

    /// Of a tier that could not be run.
    pub(crate) fn broken(tier: &str, why: &Error) -> Self {
        eprintln!("error: {tier}: {why:#}");
        Self {
            outcomes: vec![Outcome {
                name: tier.to_owned(),
                counts: Counts::default(),
                success: false,
                seconds: 0.0,
            }],
            failures: vec![format!("{tier}: {why:#}")],
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        self.failures.extend(other.failures);
    }

    /// Prints what failed, a line per outcome, and in the last line what they are together.
    pub(crate) fn print(&self) -> ExitCode {
        if !self.failures.is_empty() {
            println!("\n== failures\n{}", self.failures.join("\n"));
        }
        let mut table = plain(["target", "passed", "failed", "skipped", "seconds", ""]);
        let mut sum = Counts::default();
        for outcome in &self.outcomes {
            let counts = outcome.counts;
            sum += counts;
            // Also what did not build or was killed, where no test is counted.
            let verdict = if outcome.success { "" } else { "FAILED" };
            let numbers = [counts.passed, counts.failed, counts.skipped];
            let mut row = vec![outcome.name.clone()];
            row.extend(numbers.map(|number| number.to_string()));
            row.extend([format!("{:.1}", outcome.seconds), verdict.to_owned()]);
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Counts {
            passed,
            failed,
            skipped,
        } = sum;
        println!("\n{table}\n\n{passed} passed, {failed} failed, {skipped} skipped");
        if self.outcomes.iter().all(|outcome| outcome.success) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn failures(ran: &[TestRun]) -> Vec<String> {
    let failed = ran.iter().filter(|test| test.failed());
    failed.flat_map(TestRun::shown).collect()
}

/// A table without lines.
pub(crate) fn plain(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
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
        let outcomes = Report::groups("kernel", &ran).outcomes;
        let names: Vec<_> = outcomes
            .iter()
            .map(|o| (o.name.as_str(), o.counts.failed))
            .collect();
        assert_eq!(names, [("kernel death", 1), ("kernel flip", 2)]);
        assert!(!outcomes[0].success);
    }
}
