//! `cargo xtask test`: each tier with what it needs, and a table of what came of it.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::cargo::{cargo, need_root, output, release_binaries};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only one tier; all of them if it is left out.
    tier: Option<Tier>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tier {
    /// Everything that needs neither root nor a kernel feature.
    Unit,
    /// One promise each, on this machine's kernel. Needs root.
    Kernel,
    /// Real servers under load. Needs root.
    E2e,
    /// The kernel tests on other kernels, in virtual machines.
    Vm,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let only = args.tier;
    if only == Some(Tier::Vm) {
        eprintln!("error: the kernel matrix is not there yet; `cargo xtask test kernel` runs here");
        return Ok(ExitCode::from(2));
    }
    let wanted = |tier| only.is_none_or(|only| only == tier);
    // Said before anything is built.
    if wanted(Tier::Kernel) || wanted(Tier::E2e) {
        need_root("kernel and e2e tests (unlike `cargo xtask test unit`)")?;
    }
    let mut ran = Vec::new();
    if wanted(Tier::Unit) {
        let workspace = ["test", "--workspace", "--exclude", "synflip-tests"];
        let flags = ["--locked", "--no-fail-fast"];
        ran.push(test("unit", cargo().args(workspace).args(flags))?);
        let harness = ["test", "-p", "synflip-tests", "--lib"];
        ran.push(test("unit harness", cargo().args(harness).args(flags))?);
    }
    let mut dir = None;
    for (tier, source) in [(Tier::Kernel, "kernel"), (Tier::E2e, "e2e")] {
        if !wanted(tier) {
            continue;
        }
        let targets = targets(source)?;
        if targets.is_empty() {
            eprintln!("there are no {source} tests in tests/{source} yet");
            continue;
        }
        let dir = match &dir {
            Some(dir) => dir,
            None => dir.insert(release_binaries()?),
        };
        for target in targets {
            // One target after the other, and one test after the other: they time the kernel.
            let mut command = cargo();
            command
                .args([
                    "test",
                    "--release",
                    "--locked",
                    "-p",
                    "synflip-tests",
                    "--test",
                    &target,
                ])
                .args(["--", "--test-threads=1", "--nocapture"])
                .env("SYNFLIP_BIN_DIR", dir);
            ran.push(test(&format!("{source} {target}"), &mut command)?);
        }
    }
    print(&ran);
    Ok(if ran.iter().all(|outcome| outcome.success) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What came of one call of `cargo test`.
#[derive(Debug)]
struct Outcome {
    name: String,
    counts: Counts,
    success: bool,
    took: Duration,
}

/// Tests that passed, failed and were skipped; one that skips itself counts as skipped only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
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

/// Runs `cargo test`, passing on and counting what it prints.
fn test(name: &str, command: &mut Command) -> Result<Outcome> {
    println!("== {name}");
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let errors = thread::spawn(move || pass_on(stderr, io::stderr()));
    let mut lines = pass_on(stdout, io::stdout()).context("cannot read what the tests print")?;
    let rest = errors
        .join()
        .ok()
        .context("the reader of stderr panicked")?;
    lines.extend(rest.context("cannot read what the tests print")?);
    let success = child
        .wait()
        .context("cannot wait for cargo test")?
        .success();
    Ok(Outcome {
        name: name.to_owned(),
        counts: count(&lines),
        success,
        took: start.elapsed(),
    })
}

fn count(lines: &[String]) -> Counts {
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

fn pass_on(from: impl Read, mut to: impl Write) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(to, "{line}")?;
        lines.push(line);
    }
    Ok(lines)
}

/// The test targets whose source is in a directory of `tests/`.
fn targets(dir: &str) -> Result<Vec<String>> {
    let out = output(cargo().args(["metadata", "--no-deps", "--format-version=1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&out)?;
    let array = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let package = array(&metadata["packages"])
        .into_iter()
        .find(|p| p["name"] == "synflip-tests");
    let package = package.context("the workspace has no package synflip-tests")?;
    let in_dir = |source: &str| {
        Path::new(source).parent().and_then(Path::file_name) == Some(&OsString::from(dir))
    };
    let mut names: Vec<String> = array(&package["targets"])
        .iter()
        .filter(|target| target["kind"][0] == "test")
        .filter(|target| target["src_path"].as_str().is_some_and(in_dir))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn print(ran: &[Outcome]) {
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
