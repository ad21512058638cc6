//! How many connections per second are left of those without steering?
//!
//! The same server, once with synflip and once with SO_REUSEPORT alone, with as many listeners.
//! Over loopback, without a distance: there the share of the program is greatest, and nothing but
//! the load and the server is on the processors.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;
use synflip_bed::{
    Fixture, Network,
    load::{Config, Report},
    product::Spec,
    wait::{SECOND, SOON},
};

use super::{
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
    median_ratio: f64,
    goal: f64,
    /// Mean run time of the program, in nanoseconds.
    program_ns: Option<f64>,
}

/// Two runs, in alternating slices.
#[derive(Clone, Copy, Serialize)]
struct Pair {
    synflip_per_second: f64,
    plain_per_second: f64,
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
    let [steered, plain] = [at, (at.ip(), at.port() + 1).into()];
    // Both are there all the time; only one of them has something to do.
    let spec = |address| Spec::new(1, address, LISTENERS);
    let _steered = fixture.start(&spec(steered))?;
    let _plain = fixture.net.plain(&spec(plain))?;
    let load = |to, length| load(&fixture.net, to, length, interrupt);
    for to in [steered, plain] {
        load(to, SECOND)?;
    }

    let mut results = Vec::new();
    for number in 1..=pairs {
        screen.state(|| format!("steering: pair {number} of {pairs}"))?;
        let (mut with, mut without) = (Total::default(), Total::default());
        // In slices, back and forth: other programs of the host come and go in seconds.
        for slice in 0..SLICES {
            let mut both = [(steered, &mut with), (plain, &mut without)];
            // The other way around each time, so that neither profits from going first.
            if (number + slice).is_multiple_of(2) {
                both.reverse();
            }
            for (to, total) in both {
                total.add(&load(to, length / SLICES)?);
            }
        }
        let (synflip_per_second, plain_per_second) = (with.per_second(), without.per_second());
        results.push(Pair {
            synflip_per_second,
            plain_per_second,
            ratio: synflip_per_second / plain_per_second,
        });
    }

    screen.state(|| "steering: the program's run time".into())?;
    let counting = Counting::start()?;
    let before = RunTime::read(fixture.agent.pid())?;
    load(steered, length)?;
    let program_ns = RunTime::read(fixture.agent.pid())?.mean_since(before);
    drop(counting);
    fixture.agent.check_counters()?;
    let ratios: Vec<f64> = results.iter().map(|pair| pair.ratio).collect();
    Ok(Steering {
        pairs: results,
        median_ratio: Spread::of(&ratios).p50,
        goal: GOAL,
        program_ns,
    })
}

impl Steering {
    pub(super) fn describe(&self) -> String {
        let rows = self.pairs.iter().zip(1..).map(|(pair, number)| {
            vec![
                number.to_string(),
                format!("{:.0}", pair.synflip_per_second),
                format!("{:.0}", pair.plain_per_second),
                format!("{:.3}", pair.ratio),
            ]
        });
        let table = table(&["PAIR", "SYNFLIP /s", "PLAIN /s", "RATIO"], rows);
        let program = self.program_ns.map_or_else(
            || "the program did not run".into(),
            |mean| format!("the program takes {mean:.0} ns a run"),
        );
        format!(
            "\nsteering: connections per second, {LISTENERS} listeners, loopback, {CLIENTS} clients\n\
             {table}\
             median ratio {:.3} (goal: at least {}, {}); {program}\n{}",
            self.median_ratio,
            self.goal,
            met(self.median_ratio >= self.goal),
            self.doubt(),
        )
    }

    /// What makes the ratio worth little: pairs that differ by more than what is looked for.
    fn doubt(&self) -> String {
        let ratios = self.pairs.iter().map(|pair| pair.ratio);
        let least = ratios.clone().fold(f64::INFINITY, f64::min);
        let most = ratios.fold(0.0, f64::max);
        if most - least < 2.0 * (1.0 - self.goal) {
            return String::new();
        }
        format!(
            "Note: the pairs differ by {:.0}%, so other programs are at work here too; \
             repeat it on an idle host\n",
            (most - least) * 100.0
        )
    }
}

/// Several slices of one kind.
#[derive(Default)]
struct Total {
    connections: u64,
    seconds: f64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.connections += report.ok;
        self.seconds += report.seconds;
    }

    fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// Makes load on one of the servers; every connection must be answered.
fn load(net: &Network, to: SocketAddr, length: Duration, interrupt: &Interrupt) -> Result<Report> {
    let config = Config::closed(to, CLIENTS, length);
    let mut load = Generator::start(net, &config, interrupt)?;
    interrupt.until("the load ends", length + SOON, || Ok(load.has_ended()))?;
    let report = load.results()?;
    ensure!(
        report.lost == 0,
        "connections failed without a flip: {report:?}"
    );
    Ok(report)
}

const LISTENERS: usize = 2;
const CLIENTS: usize = 64;
/// Of a run.
const SLICES: u32 = 6;
const GOAL: f64 = 0.97;
