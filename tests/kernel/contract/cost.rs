//! What the agent costs while nothing happens, and what it does when it may not have more.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use synflip_bed::{
    product::{Generation, Spec},
    wait,
};

use crate::bed::{ADDRESS, Bed, SOON};

#[test]
fn an_idle_agent_uses_no_processor() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&[])?;
    let _second = bed.generation(2, &[])?;
    bed.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    bed.answers(10)?;
    wait::pause(Duration::from_secs(1));
    let before = ticks(bed.agent.pid())?;
    wait::pause(Duration::from_secs(3));
    let after = ticks(bed.agent.pid())?;
    ensure!(
        before == after,
        "{} ticks in 3 s\n{}",
        after - before,
        bed.agent.log()
    );
    Ok(())
}

#[test]
fn listeners_cost_little_memory() -> Result<()> {
    let bed = Bed::new()?;
    let spec = Spec::new(1, ADDRESS, 256);
    let _server = Generation::start(&bed.netns, &bed.agent, &spec)?;
    bed.until("all of its listeners work", |service| {
        crate::bed::works(service, "gen1") && service.generations[0].listeners.len() == 256
    })?;
    bed.answers(300)?;
    let resident = bed.agent.resident_kib()?;
    ensure!(resident < 20 << 10, "{resident} KiB");
    Ok(())
}

#[test]
fn an_agent_that_is_out_of_descriptors_goes_on() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let load = bed.load(4);
    let fds = bed.agent.open_fds()?;
    limit(&bed, fds as u64 + 8)?;
    let spec = Spec::new(2, ADDRESS, 64);
    let refused = Generation::start(&bed.netns, &bed.agent, &spec);
    ensure!(refused.is_err(), "64 listeners fit into 8 descriptors");
    // It still answers, and what it serves has not noticed.
    ensure!(
        bed.agent.service()?.generations.len() == 1,
        "half of a generation"
    );
    load.more(100)?;
    limit(&bed, fds as u64 + 200)?;
    let second = Generation::start(&bed.netns, &bed.agent, &spec)?;
    bed.agent.flip("gen2")?;
    load.more(100)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.contains_key(&2), "{report:?}");
    drop(second);
    Ok(())
}

/// Lets the agent have so many descriptors.
fn limit(bed: &Bed, descriptors: u64) -> Result<()> {
    let pid = Pid::from_raw(bed.agent.pid().cast_signed()).context("a process")?;
    // The agent has inherited the upper limit, which stays.
    let limit = Rlimit {
        current: Some(descriptors),
        ..getrlimit(Resource::Nofile)
    };
    prlimit(Some(pid), Resource::Nofile, limit).context("prlimit")?;
    Ok(())
}

/// Processor time used, in clock ticks: user and system.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let user: u64 = fields.get(11).context("utime")?.parse()?;
    let system: u64 = fields.get(12).context("stime")?.parse()?;
    Ok(user + system)
}
