//! Promise: the agent costs little, nothing while nothing happens, and goes on where it gets no more.

use std::{collections::BTreeMap, ffi::OsString, fs};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use synflip_bed::{
    Fixture,
    fixture::works,
    wait::{self, SECOND, SOON},
};

/// Nobody reports to it that a listener was closed or a program detached: it looks each second.
#[test]
fn an_idle_agent_only_looks_once_a_second() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    fixture.net.answers(10)?;
    fixture.agent.settled_fds()?;
    let before = switches(fixture.agent.pid())?;
    wait::pause(3 * SECOND);
    let after = switches(fixture.agent.pid())?;
    // A thread that nothing needs any more may end. That of the service sleeps once for each look;
    // what else it waits for, and what interrupts it, is not counted exactly.
    let woken: u64 = after
        .iter()
        .map(|(thread, times)| times.saturating_sub(*before.get(thread).unwrap_or(&0)))
        .sum();
    ensure!(
        (1..=30).contains(&woken),
        "woken in 3 s: {before:?}, {after:?}\n{}",
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
fn switches(pid: u32) -> Result<BTreeMap<OsString, u64>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("list threads")?;
    tasks
        .map(|task| {
            let task = task?;
            let status = fs::read_to_string(task.path().join("status"))?;
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            let counts = counts.filter_map(|line| line.split_ascii_whitespace().nth(1));
            let counts = counts.map(|count| Ok(count.parse::<u64>()?));
            Ok((task.file_name(), counts.sum::<Result<u64>>()?))
        })
        .collect()
}
