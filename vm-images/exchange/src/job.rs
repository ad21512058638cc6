//! What is to be run.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What a machine is to do.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Plan {
    /// Files of kernel modules, each after those that it needs.
    pub modules: Vec<PathBuf>,
    /// The environment of the jobs.
    pub env: BTreeMap<String, String>,
    /// What to run, whatever becomes of the others: in this order, except that those which run
    /// alone come last.
    pub jobs: Vec<Job>,
    /// How many of them to run at a time.
    pub at_a_time: usize,
}

/// A program to run: a test, or the demonstration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Job {
    /// What it is called; no two of one plan have the same name.
    pub name: String,
    /// The file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What is added to its environment.
    pub env: BTreeMap<String, String>,
    /// It is killed after so long.
    pub deadline: Duration,
    /// A text file that it writes, wanted when it has ended.
    pub output: Option<PathBuf>,
    /// It must not run beside others: it floods, or it measures.
    pub alone: bool,
}
