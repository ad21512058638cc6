//! Promise: the agent costs little, nothing while nothing happens, and goes on where it gets no more.

use std::{collections::BTreeSet, ffi::OsString, fs};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use synflip_bed::{
    Fixture,
    fixture::works,
    wait::{self, SECOND, SOON},
};

#[test]
fn an_idle_agent_uses_no_processor() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    fixture.net.answers(10)?;
    fixture.agent.settled_fds()?;
    let before = switches(fixture.agent.pid())?;
    wait::pause(2 * SECOND);
    let after = switches(fixture.agent.pid())?;
    // A thread that nothing needs any more may end.
    ensure!(
        after.is_subset(&before),
        "woken in 2 s: {before:?}, {after:?}\n{}",
        fixture.agent.log()
    );
    Ok(())
}

#[test]
fn listeners_cost_little_memory() -> Result<()> {
    let fixture = Fixture::new()?;
    let _server = fixture.start(&fixture.spec(1, 256))?;
    fixture.until("all of its listeners work", |service| {
        works(service, "gen1") && service.generations[0].listeners.len() == 256
    })?;
    fixture.net.answers(300)?;
    let resident = fixture.agent.resident_kib()?;
    ensure!(resident < 20 << 10, "{resident} KiB");
    Ok(())
}

#[test]
fn an_agent_that_is_out_of_descriptors_goes_on() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let load = fixture.net.load(4);
    let fds = fixture.agent.open_fds()?;
    limit(&fixture, fds as u64 + 8)?;
    let spec = fixture.spec(2, 64);
    let refused = fixture.start(&spec);
    ensure!(refused.is_err(), "64 listeners fit into 8 descriptors");
    // It still answers, and what it serves has not noticed.
    ensure!(
        fixture.agent.service()?.generations.len() == 1,
        "half of a generation"
    );
    load.more(100)?;
    limit(&fixture, fds as u64 + 200)?;
    let _second = fixture.start(&spec)?;
    fixture.agent.flip("gen2")?;
    load.more(100)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.contains_key(&2), "{report:?}");
    Ok(())
}

/// Lets the agent have so many descriptors.
fn limit(fixture: &Fixture, descriptors: u64) -> Result<()> {
    let pid = Pid::from_raw(fixture.agent.pid().cast_signed()).context("a process")?;
    // The agent has inherited the upper limit, which stays.
    let limit = Rlimit {
        current: Some(descriptors),
        ..getrlimit(Resource::Nofile)
    };
    prlimit(Some(pid), Resource::Nofile, limit).context("prlimit")?;
    Ok(())
}

/// How often each thread of a process has had a processor, and left it.
fn switches(pid: u32) -> Result<BTreeSet<(OsString, Vec<String>)>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("list threads")?;
    tasks
        .map(|task| {
            let task = task?;
            let status = fs::read_to_string(task.path().join("status"))?;
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            Ok((task.file_name(), counts.map(Into::into).collect()))
        })
        .collect()
}
