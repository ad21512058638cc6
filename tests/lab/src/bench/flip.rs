//! Does a flip take longer with more listeners?
//!
//! It should take what the kernel's grace period takes, which is measured beside it: one update
//! of the same kind of map that changes nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use synflip_bed::{
    Fixture,
    product::{Generation, Spec},
};
use synflip_bpf::{DEFAULT_BPFFS, Object, Publisher, Steering, probe};

use super::measure::Spread;
use crate::command::{Interrupt, Screen, ms, table};

#[derive(Serialize)]
pub(super) struct Flip {
    flips: u32,
    /// The wait alone.
    grace_period_ms: Spread,
    /// Commits with one listener.
    one_listener_ms: Spread,
    /// Commits with 64 listeners over 4 ports.
    many_listeners_ms: Spread,
    /// Of the medians: many listeners to one.
    ratio: f64,
    /// Of the medians: one listener to the wait alone.
    ratio_to_grace_period: f64,
}

pub(super) fn measure(flips: u32, screen: &mut Screen, interrupt: &Interrupt) -> Result<Flip> {
    let mut barrier = Barrier::new()?;
    let one = Pair::start(1, 1)?;
    let many = Pair::start(PORTS, EACH)?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for number in 1..=flips {
        interrupt.check()?;
        screen.state(|| format!("flip: {number} of {flips}"))?;
        let took = [
            barrier.wait()?.as_secs_f64() * 1000.0,
            one.flip(number)?,
            many.flip(number)?,
        ];
        for (times, took) in times.iter_mut().zip(took) {
            times.push(took);
        }
    }
    let [grace_period_ms, one_listener_ms, many_listeners_ms] =
        times.each_ref().map(|times| Spread::of(times));
    Ok(Flip {
        flips,
        grace_period_ms,
        one_listener_ms,
        many_listeners_ms,
        ratio: many_listeners_ms.p50 / one_listener_ms.p50,
        ratio_to_grace_period: one_listener_ms.p50 / grace_period_ms.p50,
    })
}

impl Flip {
    pub(super) fn describe(&self) -> String {
        let row = |name: &str, spread: Spread| {
            let ratio = |to: Spread| format!("{:.2}", spread.p50 / to.p50);
            vec![
                name.to_owned(),
                ms(spread.p50),
                ms(spread.max),
                ratio(self.grace_period_ms),
                ratio(self.one_listener_ms),
            ]
        };
        let rows = [
            row("grace period alone", self.grace_period_ms),
            row("1 listener, 1 port", self.one_listener_ms),
            row("64 listeners, 4 ports", self.many_listeners_ms),
        ];
        let header = ["", "P50", "MAX", "TO GRACE PERIOD", "TO 1 LISTENER"];
        format!(
            "\nflip: commit time, {} of each, alternating, without load\n{}\
             64 listeners take {:.2} of the time of 1\n",
            self.flips,
            table(&header, rows),
            self.ratio
        )
    }
}

/// Two generations, one of which is working and the other on standby.
struct Pair {
    _generations: [Generation; 2],
    fixture: Fixture,
}

impl Pair {
    fn start(ports: u16, listeners: usize) -> Result<Self> {
        let fixture = Fixture::new()?;
        let first = fixture.net.address;
        let address = |port| (first.ip(), first.port() + port).into();
        let start = |number| {
            fixture.start(&Spec {
                listen: (0..ports).map(address).collect(),
                ..fixture.spec(number, listeners)
            })
        };
        Ok(Self {
            _generations: [start(1)?, start(2)?],
            fixture,
        })
    }

    /// Flips to the one that is not working, and says how long the commit took.
    fn flip(&self, number: u32) -> Result<f64> {
        // The first generation works at first.
        let to = if number.is_multiple_of(2) {
            "gen1"
        } else {
            "gen2"
        };
        Ok(self
            .fixture
            .agent
            .flip_with(to, &["--keep"])?
            .flip
            .commit_ms)
    }
}

/// Waits for grace periods, through maps of its own.
struct Barrier {
    publisher: Publisher,
    steering: Option<Steering>,
    dir: PathBuf,
}

impl Barrier {
    fn new() -> Result<Self> {
        synflip_bpf::prepare_bpffs(Path::new(DEFAULT_BPFFS))?;
        let object = Object::default();
        let variant = probe(&object)?.variant;
        let dir = Path::new(DEFAULT_BPFFS).join(format!("synflip-bench-{}", std::process::id()));
        let (steering, publisher) = Steering::open(dir.clone(), object, variant)?;
        Ok(Self {
            publisher,
            steering: Some(steering),
            dir,
        })
    }

    fn wait(&mut self) -> Result<Duration> {
        Ok(self.publisher.barrier()?)
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        drop(self.steering.take().map(Steering::unpin));
        // Only there still if that failed.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

const PORTS: u16 = 4;
const EACH: usize = 16;
