//! `cargo xtask test hazards`: is each known hazard seen, and no other?
//!
//! The tests know the programs only, so they run against those of another commit as well.

use std::{
    fs,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    against,
    cargo::{cargo, need_root, output},
};

#[derive(Debug, clap::Args)]
#[group(id = "hazards")]
pub(crate) struct Args {
    /// With `hazards`: run the programs of this commit, in which each hazard has to be seen.
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// With `hazards`: only tests whose name contains this.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
}

impl Args {
    /// Whether an option is set that nothing but the hazards has.
    pub(crate) fn any(&self) -> bool {
        self.against.is_some() || self.only.is_some()
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    need_root("the hazards")?;
    let programs = match &args.against {
        Some(commit) => against::programs(commit)?,
        None => build_programs()?,
    };
    let test = build_tests()?;
    let listed = output(Command::new(&test).args(["--list", "--format", "terse"]))?;
    let mut names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| args.only.as_ref().is_none_or(|only| name.contains(only)))
        .collect();
    names.sort_unstable();
    ensure!(!names.is_empty(), "no such hazard");
    let runner = Runner {
        test,
        programs,
        against: args.against.is_some(),
        verdicts: tempfile::tempdir().context("make a directory for verdicts")?,
    };
    let found = runner.all(&names)?;
    print(&found);
    let passed = found.iter().all(|found| found.passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What came of the test of one hazard.
struct Found {
    number: String,
    /// What was seen; empty if nothing was, none if the test failed to look.
    seen: Option<String>,
    passed: bool,
    took: Duration,
    said: String,
}

struct Runner {
    test: PathBuf,
    programs: PathBuf,
    against: bool,
    verdicts: TempDir,
}

impl Runner {
    /// Runs each test, several at a time; returns what came of them in the same order.
    fn all(&self, names: &[&str]) -> Result<Vec<Found>> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Found)>> {
            let mut found = Vec::new();
            loop {
                let index = next.fetch_add(1, Relaxed);
                let Some(name) = names.get(index) else {
                    return Ok(found);
                };
                let one = self.one(name)?;
                println!("{}: {}", one.number, one.shown());
                if !one.passed {
                    println!("{}", one.said.trim_end());
                }
                found.push((index, one));
            }
        };
        let mut found = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
            let mut found = Vec::new();
            for thread in threads {
                let ended = thread.join();
                found.extend(ended.map_err(|_panic| anyhow!("a thread has panicked"))??);
            }
            anyhow::Ok(found)
        })?;
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }

    /// Runs one test in a process of its own.
    fn one(&self, name: &str) -> Result<Found> {
        let verdict = self.verdicts.path().join(name.replace("::", "-"));
        let start = Instant::now();
        let mut command = Command::new(&self.test);
        command
            .args(["--exact", name, "--nocapture"])
            .env("SYNFLIP_BIN_DIR", &self.programs)
            .env("SYNFLIP_VERDICT", &verdict)
            .env_remove("SYNFLIP_AGAINST");
        if self.against {
            command.env("SYNFLIP_AGAINST", "1");
        }
        let (passed, said) = within_limit(&mut command)?;
        Ok(Found {
            number: number(name),
            seen: fs::read_to_string(verdict).ok(),
            passed,
            took: start.elapsed(),
            said,
        })
    }
}

/// Runs a command to its end, which must come in time; returns whether it succeeded, and what it
/// printed.
fn within_limit(command: &mut Command) -> Result<(bool, String)> {
    let (mut from, to) = std::io::pipe().context("make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(to.try_clone().context("duplicate a pipe")?)
        .stderr(to)
        // With what it starts it is a group, which can be ended as one.
        .process_group(0)
        .spawn()
        .context("start a test")?;
    // Its end of the pipe would keep ours from ending.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let group = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        // What could be read is all that there is to show.
        drop(from.read_to_end(&mut said));
        drop(sender.send(said));
    });
    let (mut said, in_time) = match ended.recv_timeout(LIMIT) {
        Ok(said) => (said, true),
        Err(_late) => {
            kill_process_group(group, Signal::KILL).context("end a test")?;
            (ended.recv_timeout(LIMIT).unwrap_or_default(), false)
        }
    };
    let status = child.wait().context("wait for a test")?;
    if !in_time {
        said.extend(format!("not ended within {LIMIT:?}\n").bytes());
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok((in_time && status.success(), said))
}

impl Found {
    fn shown(&self) -> &str {
        match self.seen.as_deref() {
            None => "the test failed",
            Some("") => "safe",
            Some(seen) => seen,
        }
    }
}

/// The number in the list that a test's name begins with: `A1` for `a01_…`, `A4b` for `a04b_…`.
fn number(name: &str) -> String {
    let name = name.rsplit("::").next().unwrap_or(name);
    let number = name.split('_').next().unwrap_or(name);
    let digits = number.trim_start_matches(|c: char| !c.is_ascii_digit());
    let section = number.strip_suffix(digits).unwrap_or_default();
    format!(
        "{}{}",
        section.to_uppercase(),
        digits.trim_start_matches('0')
    )
}

fn print(found: &[Found]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(["hazard", "seen", "expected", "seconds"]);
    for one in found {
        let expected = if one.passed { "yes" } else { "NO" };
        let took = format!("{:.1}", one.took.as_secs_f64());
        table.add_row([&one.number, one.shown(), expected, &took]);
    }
    if let Some(seconds) = table.column_mut(3) {
        seconds.set_cell_alignment(CellAlignment::Right);
    }
    let count = |wanted: fn(&Found) -> bool| found.iter().filter(|one| wanted(one)).count();
    let safe = count(|one| one.seen.as_deref() == Some(""));
    let unknown = count(|one| one.seen.is_none());
    println!("\n{table}\n");
    println!(
        "{} hazards seen, {safe} safe{}",
        found.len() - safe - unknown,
        if unknown == 0 {
            String::new()
        } else {
            format!(", {unknown} unknown")
        }
    );
    let passed = count(|one| one.passed);
    println!("{passed} passed, {} failed", found.len() - passed);
}

/// Builds the tests; returns the file that runs them.
fn build_tests() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--locked"]).args([
        "-p",
        "synflip-kernel-tests",
        "--test",
        "hazards",
    ]);
    let built = executables(&mut command)?;
    let file = built.into_iter().find(|(name, _)| name == "hazards");
    Ok(file.context("cargo has not built the hazards")?.1)
}

/// Builds the programs of this tree; returns where they are.
fn build_programs() -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--locked", "--bins"])
        .args(["-p", "synflip-cli", "-p", "synflip-bed"])
        .args(["-p", "synflip-hazard-server"]);
    directory(&executables(&mut command)?)
}

/// Runs cargo; returns the names and files of all programs and tests that it has built.
pub(crate) fn executables(command: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    let said = output(command.arg("--message-format=json-render-diagnostics"))?;
    let mut built = Vec::new();
    for message in said.lines() {
        let message: Value = serde_json::from_str(message).context("cargo printed no JSON")?;
        if let (Some(path), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) {
            built.push((name.to_owned(), path.into()));
        }
    }
    Ok(built)
}

/// Where programs are that were built together.
pub(crate) fn directory(built: &[(String, PathBuf)]) -> Result<PathBuf> {
    let dir = built.first().and_then(|(_, file)| file.parent());
    dir.map(Path::to_owned).context("cargo has built nothing")
}

/// So many tests run at a time: they wait, most of the time.
const AT_A_TIME: usize = 4;
/// How long one may take, on a slow machine.
const LIMIT: Duration = Duration::from_secs(180);

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
