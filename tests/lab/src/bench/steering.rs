//! How many connections per second are left of those without steering?
//!
//! The same server, once with synflip and once with SO_REUSEPORT alone, with as many listeners.
//! Over loopback, without a distance: there the share of the program is greatest, and nothing but
//! the load and the server is on the processors.
//!
//! Other programs of the host come and go in seconds: so the runs are short and many, one of each
//! kind after the other, and what is said is how sure the ratio is.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use synflip_bed::{
    Fixture, Network,
    load::{Config, Report},
    on_processor,
    product::Spec,
    wait::{SECOND, SOON},
};

use super::{
    interval::Interval,
    measure::{Spread, met},
    run_time::{Counting, RunTime},
};
use crate::{
    command::{Interrupt, Screen, table},
    generator::Generator,
};

#[derive(Serialize)]
pub(super) struct Steering {
    pairs: Vec<Pair>,
    /// The median of the pairs' ratios.
    median: Interval,
    /// All connections with synflip to all without.
    ratio: Interval,
    /// The median of the ratios of two servers that are alike: how far off 1 an instrument is that
    /// has nothing to measure.
    alike: Interval,
    goals: Goals,
    /// Mean run time of the program, in nanoseconds.
    program_ns: Option<f64>,
}

/// What is to be reached.
#[derive(Serialize)]
struct Goals {
    /// By the median, and by the ratio of all.
    value: f64,
    /// By the lower bounds of both.
    low: f64,
}

/// Runs, one after the other.
#[derive(Clone, Copy, Serialize)]
struct Pair {
    synflip_per_second: f64,
    plain_per_second: f64,
    /// Another plain server.
    alike_per_second: f64,
    ratio: f64,
}

pub(super) fn measure(
    pairs: u32,
    length: Duration,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Steering> {
    let fixture = Fixture::new()?;
    let at = fixture.net.address;
    let [steered, plain, alike] = [0, 1, 2].map(|port| (at.ip(), at.port() + port).into());
    // All are there all the time; only one of them has something to do.
    let spec = |address| Spec::new(1, address, LISTENERS);
    // All on one processor, the load on another: see `on_processor`.
    let _steered = on_processor(SERVERS, || fixture.start(&spec(steered)))?;
    let _plain = on_processor(SERVERS, || fixture.net.plain(&spec(plain)))?;
    let _alike = on_processor(SERVERS, || fixture.net.plain(&spec(alike)))?;
    let load = |to, length| load(&fixture.net, to, length, interrupt);
    let order = [steered, plain, alike];
    for to in order {
        load(to, SECOND)?;
    }

    let mut results = Vec::new();
    let counting = Counting::off()?;
    for number in 1..=pairs {
        if number % 10 == 1 {
            screen.state(|| format!("steering: pair {number} of {pairs}"))?;
        }
        let mut reached = [0.0; 3];
        // Another one first each time, so that none profits from going first.
        for turn in 0..order.len() {
            let turn = (turn + number as usize) % order.len();
            reached[turn] = per_second(&load(order[turn], length)?);
        }
        let [synflip_per_second, plain_per_second, alike_per_second] = reached;
        results.push(Pair {
            synflip_per_second,
            plain_per_second,
            alike_per_second,
            ratio: synflip_per_second / plain_per_second,
        });
    }
    drop(counting);

    screen.state(|| "steering: the program's run time".into())?;
    let counting = Counting::on()?;
    let before = RunTime::read(fixture.agent.pid())?;
    load(steered, SECOND)?;
    let program_ns = RunTime::read(fixture.agent.pid())?.mean_since(before);
    drop(counting);
    fixture.agent.check_counters()?;
    let ratios: Vec<f64> = results.iter().map(|pair| pair.ratio).collect();
    let alike = |pair: &Pair| pair.alike_per_second / pair.plain_per_second;
    let alike: Vec<f64> = results.iter().map(alike).collect();
    let both = |pair: &Pair| (pair.synflip_per_second, pair.plain_per_second);
    let both: Vec<_> = results.iter().map(both).collect();
    Ok(Steering {
        median: Interval::median(&ratios).context("no pairs")?,
        ratio: Interval::ratio(&both).context("no pairs")?,
        alike: Interval::median(&alike).context("no pairs")?,
        pairs: results,
        goals: GOALS,
        program_ns,
    })
}

impl Steering {
    pub(super) fn describe(&self) -> String {
        let all = |of: fn(&Pair) -> f64| self.pairs.iter().map(of).collect::<Vec<_>>();
        let median = |values: Vec<f64>| Spread::of(&values).p50;
        let row = |what: &str, found: Interval, goal: &str| {
            let Interval { value, low, high } = found;
            let bounds = format!("{low:.4} to {high:.4}");
            vec![
                what.to_owned(),
                format!("{value:.4}"),
                bounds,
                goal.to_owned(),
            ]
        };
        let goals = &self.goals;
        let judged = |found: Interval| met(found.value >= goals.value && found.low >= goals.low);
        let rows = [
            row("median of the pairs", self.median, judged(self.median)),
            row("all connections", self.ratio, judged(self.ratio)),
            row("two plain servers", self.alike, ""),
        ];
        let program = self.program_ns.map_or_else(
            || "the program did not run".into(),
            |mean| format!("the program takes {mean:.0} ns a run, with the kernel's statistics on"),
        );
        format!(
            "\nsteering: connections per second, {LISTENERS} listeners, loopback, {CLIENTS} \
             clients, {} pairs: {:.0} with synflip, {:.0} with plain SO_REUSEPORT (medians)\n\
             {}goal: at least {}, and at least {} with 95 %; {program}\n{}",
            self.pairs.len(),
            median(all(|pair| pair.synflip_per_second)),
            median(all(|pair| pair.plain_per_second)),
            table(&["SYNFLIP TO PLAIN", "RATIO", "WITH 95 %", "GOAL"], rows),
            self.goals.value,
            self.goals.low,
            self.doubt(),
        )
    }

    /// What makes the ratio worth little: bounds further apart than what is looked for.
    fn doubt(&self) -> String {
        let width = self.median.high - self.median.low;
        if width < 2.0 * (1.0 - self.goals.low) {
            return String::new();
        }
        format!(
            "Note: the bounds differ by {:.1}%, so other programs are at work here too; repeat \
             it on an idle host, or with more pairs\n",
            width * 100.0
        )
    }
}

fn per_second(report: &Report) -> f64 {
    report.ok as f64 / report.seconds
}

/// Makes load on one of the servers; every connection must be answered.
fn load(net: &Network, to: SocketAddr, length: Duration, interrupt: &Interrupt) -> Result<Report> {
    let config = Config::closed(to, CLIENTS, length);
    let mut load = on_processor(LOAD, || Generator::start(net, &config, interrupt))?;
    interrupt.until("the load ends", length + SOON, || Ok(load.has_ended()))?;
    let report = load.results()?;
    ensure!(
        report.lost == 0,
        "connections failed without a flip: {report:?}"
    );
    Ok(report)
}

/// Which processor each is on.
const SERVERS: usize = 1;
const LOAD: usize = 0;
const LISTENERS: usize = 2;
const CLIENTS: usize = 64;
const GOALS: Goals = Goals {
    value: 0.99,
    low: 0.98,
};
