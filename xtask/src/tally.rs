//! What test programs print, counted.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// What came of one test target, or of one call of `cargo test`.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    pub(crate) success: bool,
    pub(crate) took: Duration,
}

/// Tests that passed, failed and were skipped; one that skips itself counts as skipped only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// Takes in one line of what `cargo test` prints.
    fn read(&mut self, line: &str) {
        // With --nocapture a test's own line may stand behind `test name ... `.
        if line.starts_with("skipped: ") || line.contains(" ... skipped: ") {
            self.skipped += 1;
            self.passed = self.passed.saturating_sub(1);
            return;
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let fields = result.split(['.', ';']).map(str::trim);
        for field in fields {
            let Some((count, what)) = field.split_once(' ') else {
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

/// Counts what a test program has printed.
pub(crate) fn count(lines: &[String]) -> Counts {
    let mut counts = Counts::default();
    // The results first: a skip is taken off what passed.
    let (results, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| line.starts_with("test result: "));
    results
        .into_iter()
        .chain(others)
        .for_each(|line| counts.read(line));
    counts
}

/// Prints one line per outcome.
pub(crate) fn print(ran: &[Outcome]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["target", "passed", "failed", "skipped", "seconds", ""]);
    for outcome in ran {
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
            format!("{:.1}", outcome.took.as_secs_f64()),
            // Also a target that did not build or was killed, where no test is counted.
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
    println!("\n{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_results_and_skips() {
        let lines = [
            "test flip ... skipped: no CAP_BPF",
            "ok",
            "skipped: netem is missing",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        let counts = count(&lines.map(str::to_owned));
        assert_eq!(
            counts,
            Counts {
                passed: 5,
                failed: 3,
                skipped: 3
            }
        );
    }
}
