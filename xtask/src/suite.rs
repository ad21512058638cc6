//! The tests of a program of tests, each as a job of its own.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use synflip_exchange::Job;

use crate::{
    cargo::{quietly, target_dir},
    vm::Kernels,
};

/// The names of its tests, those that take longest first; with patterns, only those which contain
/// one of them.
pub(crate) fn list(program: &Path, only: &[String]) -> Result<Vec<String>> {
    let said = quietly(Command::new(program).args(["--list", "--format", "terse"]))?;
    let names = said.lines().filter_map(|line| line.strip_suffix(": test"));
    let wanted = |name: &&str| only.is_empty() || only.iter().any(|part| name.contains(part));
    let mut names: Vec<String> = names.filter(wanted).map(str::to_owned).collect();
    let times = Times::load()?;
    // One that was never seen may take any time.
    names.sort_by(|a, b| times.of(b).total_cmp(&times.of(a)));
    Ok(names)
}

/// Each of these tests of a program as a job.
pub(crate) fn jobs(names: &[String], program: &Path, kernels: &Kernels) -> Vec<Job> {
    let job = |name: &String| Job {
        name: name.clone(),
        program: program.to_owned(),
        // The ignored too: there are none, and none must pass that has not run.
        args: ["--exact", name, "--nocapture", "--include-ignored"]
            .map(str::to_owned)
            .into(),
        deadline: Duration::from_secs(kernels.deadline_s(name)),
        alone: kernels.runs_alone(name),
        ..Job::default()
    };
    names.iter().map(job).collect()
}

/// How long each test took when it was seen last, in seconds.
struct Times(BTreeMap<String, f64>);

impl Times {
    fn load() -> Result<Self> {
        let path = target_dir()?.join(TIMES);
        // Without the file, or with one of another time, the order is another.
        let text = fs::read_to_string(path).unwrap_or_default();
        Ok(Self(serde_json::from_str(&text).unwrap_or_default()))
    }

    fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::INFINITY)
    }
}

/// Keeps how long tests took, for the order of the next run.
pub(crate) fn remember(took: impl Iterator<Item = (String, f64)>) -> Result<()> {
    let mut times = Times::load()?;
    times.0.extend(took);
    let path = target_dir()?.join(TIMES);
    let text = serde_json::to_string_pretty(&times.0)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

const TIMES: &str = "test-times.json";
