//! Tests on this machine.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use synflip_exchange::{Direct, all, run as execute};

use crate::{cases::TestRun, guard::Guard, suite, vm::Kernels};

/// Runs the tests of a program, each as a process of its own, so many at a time; with patterns,
/// only those whose name contains one of them. Shows each when it has ended.
///
/// The environment is added to this process's own. Each test finds in SYNFLIP_VERDICT the name of
/// a file for whatever else it has to tell: [`TestRun::output`].
pub(crate) fn run(
    program: &Path,
    env: &[(&str, &str)],
    only: &[String],
    at_a_time: usize,
) -> Result<Vec<TestRun>> {
    let kernels = Kernels::load()?;
    let names = suite::list(program, only)?;
    let _guard = Guard::start()?;
    let scratch = tempfile::tempdir().context("cannot create a directory")?;
    let mut jobs = suite::jobs(&names, program, &kernels);
    for (number, job) in jobs.iter_mut().enumerate() {
        let file = scratch.path().join(format!("verdict-{number}"));
        let named = ("SYNFLIP_VERDICT".to_owned(), file.display().to_string());
        job.env.extend([named]);
        job.output = Some(file);
    }
    let lacks = kernels.host_may_lack();
    let mut all_env = BTreeMap::from([("SYNFLIP_KERNEL_LACKS".to_owned(), lacks.join(","))]);
    let given = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    all_env.extend(given);
    let mut ran = all(&jobs, at_a_time, |job| {
        let mut lines = Vec::new();
        let say = |line| lines.push(line);
        let ended = execute(job, &all_env, scratch.path(), &Direct, say);
        let ran = TestRun::judge(job.name.clone(), lines, &ended, lacks);
        println!("{}", ran.shown().join("\n"));
        ran
    });
    suite::remember(ran.iter().filter_map(TestRun::time))?;
    ran.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ran)
}
