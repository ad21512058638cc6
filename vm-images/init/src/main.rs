//! PID 1 of a virtual machine: makes a small Linux system, runs what `/plan.json` says, and
//! powers off.
//!
//! What the programs print and how they end goes to the second serial port, one line per
//! [report::Line]; the first is the kernel's. Nothing here may end the process: the kernel
//! would panic and hide why.

#![forbid(unsafe_code)]

mod job;
mod report;
mod system;

use std::{collections::BTreeMap, fs, panic, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use report::{Line, Report};

/// What to do, as xtask has written it.
#[derive(Debug, Deserialize)]
struct Plan {
    /// Kernel modules, each after those that it needs.
    modules: Vec<PathBuf>,
    /// The environment of the jobs.
    env: BTreeMap<String, String>,
    /// One after the other, whatever became of the one before.
    jobs: Vec<job::Job>,
}

fn main() {
    let ended = panic::catch_unwind(|| {
        system::mount_all()?;
        let mut report = Report::open()?;
        if let Err(error) = work(&mut report) {
            report.line(&Line::Fatal(&format!("{error:#}")))?;
        }
        report.close()
    });
    // The console is all that is left to tell it.
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => system::console(&format!("synflip-init: {error:#}")),
        Err(_panic) => system::console("synflip-init: panicked"),
    }
    system::power_off();
}

fn work(report: &mut Report) -> Result<()> {
    system::prepare()?;
    let plan = fs::read("/plan.json").context("read /plan.json")?;
    let plan: Plan = serde_json::from_slice(&plan).context("understand /plan.json")?;
    for module in &plan.modules {
        system::load_module(module)?;
    }
    for job in &plan.jobs {
        job.run(&plan.env, report)?;
    }
    report.line(&Line::Done)
}
