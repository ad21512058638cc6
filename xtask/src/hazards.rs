//! `cargo xtask test hazards`: is each known hazard seen, and no other?
//!
//! The tests know the programs only, so they run against those of another commit as well.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::{
    against,
    cargo::{cargo, need_root, output},
    cases::TestRun,
    host,
};

/// Runs the hazards whose names contain one of these, or all; with a commit, against its programs.
pub(crate) fn run(commit: Option<&str>, only: &[String]) -> Result<ExitCode> {
    need_root("the hazards")?;
    let dir = match commit {
        Some(commit) => against::programs(commit)?,
        None => programs()?,
    };
    let dir = dir.to_str().context("a path is not UTF-8")?;
    let mut env = vec![("SYNFLIP_BIN_DIR", dir)];
    if commit.is_some() {
        env.push(("SYNFLIP_AGAINST", "1"));
    }
    let found = host::run(&tests()?, &env, only, AT_A_TIME)?;
    ensure!(
        !found.is_empty(),
        "no hazard is called {}",
        only.join(" or ")
    );
    print(&found);
    Ok(if found.iter().any(TestRun::failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Builds the programs; returns where they are.
///
/// As `cargo test` does it, and faster than what is fit for virtual machines: nothing is measured.
fn programs() -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--locked", "--bins"])
        .args(["-p", "synflip-cli", "-p", "synflip-bed"])
        .args(["-p", "synflip-hazard-server"]);
    let program = executable(&mut command)?;
    let dir = program.parent().context("a program is in no directory")?;
    Ok(dir.to_owned())
}

/// Builds the tests.
fn tests() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--locked"]).args([
        "-p",
        "synflip-kernel-tests",
        "--test",
        "hazards",
    ]);
    executable(&mut command)
}

/// Has cargo build something; returns one of the programs that this makes.
pub(crate) fn executable(command: &mut Command) -> Result<PathBuf> {
    let said = output(command.arg("--message-format=json-render-diagnostics"))?;
    for message in said.lines() {
        let message: Value = serde_json::from_str(message).context("cargo printed no JSON")?;
        if let Some(program) = message["executable"].as_str() {
            return Ok(program.into());
        }
    }
    bail!("cargo has built no program")
}

fn print(found: &[TestRun]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(["hazard", "seen", "expected", "seconds"]);
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
    let failed = count(TestRun::failed);
    println!("{} passed, {failed} failed", found.len() - failed);
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

/// So many tests run at a time: they wait, most of the time.
const AT_A_TIME: usize = 4;
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
