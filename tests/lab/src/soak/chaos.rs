//! A soak from its beginning to its end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use synflip_bed::{
    Line, Setup, kills,
    load::{Progress, Report, monotonic_us},
    network::Samples,
    wait::MS,
};

use super::{
    faults::inject,
    footprint::Footprint,
    options::Settings,
    plan::{Kind, Plan},
    report,
    servers::Servers,
    stalls,
};
use crate::{
    command::{Interrupt, Screen, format},
    generator::Generator,
};

/// Everything that was seen.
pub(super) struct Story {
    /// What became of the connections; what died in service is no longer among the lost.
    pub(super) report: Report,
    pub(super) died_in_service: u64,
    /// When faults began to be injected: microseconds of CLOCK_MONOTONIC.
    pub(super) begun_us: u64,
    pub(super) faults: Vec<Injected>,
    /// The longest stalls, by what was done then.
    pub(super) stalls_us: BTreeMap<Kind, u64>,
    /// Server processes that were killed.
    pub(super) kills: usize,
    /// Agents that were killed.
    pub(super) agent_deaths: u32,
    /// Of the first agent.
    pub(super) first: Footprint,
    /// Of the last one: early in its life, and at the end.
    pub(super) before: Footprint,
    pub(super) after: Footprint,
    /// What was not as it must be, besides lost connections.
    pub(super) broken: Vec<String>,
}

/// A fault that was injected: microseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injected {
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) begun_us: u64,
    pub(super) ended_us: u64,
}

/// Injects faults for as long as the settings say, and looks at what came of it.
pub(super) fn run(
    settings: &Settings,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Story> {
    screen.line(&report::headline(settings))?;
    let setup = Setup::new().line(Line::Link(settings.delay));
    let mut servers = Servers::start(&setup, interrupt)?;
    let first = Footprint::measure(&mut servers)?;
    let samples = Samples::new()?;
    let config = settings.load(&servers.fixture.net, &samples);
    let mut load = Generator::start(&servers.fixture.net, &config, interrupt)?;

    let (mut plan, mut faults) = (Plan::new(settings), Vec::new());
    let (begun, begun_us) = (Instant::now(), monotonic_us());
    let half = settings.duration / 2;
    let mut before = None;
    while begun.elapsed() < settings.duration {
        let kill_the_agent = begun.elapsed() < half;
        if !kill_the_agent && before.is_none() {
            before = Some(Footprint::measure(&mut servers)?);
        }
        let fault = plan.next(kill_the_agent);
        let (number, kind) = (fault.number, fault.kind);
        servers.pause(fault.pause)?;
        let fault_us = monotonic_us();
        inject(fault, &mut servers).map_err(|error| {
            let (kind, seed) = (kind.as_str(), settings.delay.seed);
            anyhow!(
                "fault {number} of seed {seed}, {kind}: {error:#}\n{}",
                servers.fixture.agent.last_words()
            )
        })?;
        let fault = Injected {
            number,
            kind,
            begun_us: fault_us,
            ended_us: monotonic_us(),
        };
        let line = event(begun.elapsed(), &fault, load.progress()?);
        screen.event(&line)?;
        screen.state(|| line)?;
        faults.push(fault);
    }
    let before = before.context("the soak was too short to look at the agent")?;
    let after = Footprint::measure(&mut servers)?;
    load.stop();
    while !load.has_ended() {
        servers.pause(2 * MS)?;
    }
    let mut report = load.results()?;
    let died = kills::account(&servers.deaths, &mut report);
    let counters = servers.fixture.agent.check_counters();
    Ok(Story {
        report,
        stalls_us: stalls::by_kind(&samples.file(), &faults)?,
        died_in_service: died.iter().sum(),
        begun_us,
        faults,
        kills: servers.deaths.len(),
        agent_deaths: servers.agent_deaths,
        first,
        before,
        after,
        broken: counters
            .err()
            .map(|error| format!("counters: {error:#}"))
            .into_iter()
            .collect(),
    })
}

fn event(elapsed: Duration, fault: &Injected, progress: Progress) -> String {
    let [ok, failed] = [progress.ok, progress.lost].map(format::count);
    format!(
        "{:>7.2} s  {:>4}  {:<24}  {:>7}  {ok} ok, {failed} lost or died in service",
        elapsed.as_secs_f64(),
        fault.number,
        fault.kind.as_str(),
        format::micros(fault.ended_us - fault.begun_us),
    )
}
