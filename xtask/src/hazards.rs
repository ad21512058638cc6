//! `cargo xtask test hazards`: is each known hazard seen, and no other?
//!
//! The tests know the programs only, so they run against those of another commit as well.

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, ContentArrangement};

use crate::{
    against,
    binaries::{Binaries, TestProgram},
    cases::TestRun,
    host,
    tally::{Report, plain},
    test::at_a_time,
};

/// Runs the hazards whose names contain one of these, or all; with a commit, against its programs.
pub(crate) fn run(commit: Option<&str>, only: &[String]) -> Result<Report> {
    // First: the name may be wrong.
    let other = commit.map(|commit| against::programs(commit, against::OF_HAZARDS));
    let other = other.transpose()?;
    let built = Binaries::build(&[TestProgram::Hazards])?;
    let dir = other.as_deref().map_or_else(|| built.dir(), Ok)?;
    let dir = dir.to_str().context("a path is not UTF-8")?;
    let mut env = vec![("SYNFLIP_BIN_DIR", dir)];
    if commit.is_some() {
        env.push(("SYNFLIP_AGAINST", "1"));
    }
    let program = TestProgram::Hazards;
    let found = host::run(built.test(program)?, &env, only, at_a_time(program))?;
    if !found.is_empty() {
        print(&found);
    }
    Ok(Report::whole("hazards", &found))
}

fn print(found: &[TestRun]) {
    let mut table = plain(["hazard", "seen", "expected", "seconds"]);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    for one in found {
        let seen = match one.output.as_deref() {
            None => "the test has failed",
            Some("") => "safe",
            Some(seen) => seen,
        };
        let expected = if one.failed() { "NO" } else { "yes" };
        let took = format!("{:.1}", one.seconds);
        table.add_row([&number(&one.name), seen, expected, &took]);
    }
    if let Some(seconds) = table.column_mut(3) {
        seconds.set_cell_alignment(CellAlignment::Right);
    }
    let count = |wanted: fn(&TestRun) -> bool| found.iter().filter(|one| wanted(one)).count();
    let safe = count(|one| one.output.as_deref() == Some(""));
    let unknown = count(|one| one.output.is_none());
    let seen = found.len() - safe - unknown;
    println!("\n{table}\n");
    match unknown {
        0 => println!("{seen} hazards seen, {safe} safe"),
        _ => println!("{seen} hazards seen, {safe} safe, {unknown} unknown"),
    }
}

/// The number in the list that a test's name begins with: `A1` for `a01_…`, `A4b` for `a04b_…`.
fn number(name: &str) -> String {
    let name = name.rsplit("::").next().unwrap_or(name);
    let number = name.split('_').next().unwrap_or(name);
    let digits = number.trim_start_matches(|c: char| !c.is_ascii_digit());
    let section = number.strip_suffix(digits).unwrap_or_default();
    let digits = digits.trim_start_matches('0');
    format!("{}{digits}", section.to_uppercase())
}

/// Columns of the table, whose sentences are broken into lines.
const WIDTH: u16 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_the_number_of_its_hazard() {
        assert_eq!(number("a01_dead::a01_the_corpse"), "A1");
        assert_eq!(number("a04_missing::a04b_a_part"), "A4b");
        assert_eq!(number("c10_metrics::c10_what_lacks"), "C10");
    }
}
