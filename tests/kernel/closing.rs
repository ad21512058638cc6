//! Promise: closing the listeners of a generation that has drained loses no SYN, whichever of the
//! group they are.
//!
//! Only a flood of SYNs shows it: a connection's own retransmission would hide what was lost.

#[path = "closing/fleet.rs"]
mod fleet;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Netns,
    capability::{is_slow, scaled},
    note,
    product::{Agent, Operator, Options},
    raw::{self, Flood, FloodReport},
    wait,
};

use fleet::Fleet;

// IPv6 puts the oldest listener first into its hash bucket, IPv4 the newest: these are the two
// ways in which the first one is among those that close.

fn flips_forward_over_ipv6_lose_no_syn() -> Result<()> {
    closes_lose_nothing(Family::V6, Closing::Old, &[])
}

fn flips_forward_over_ipv6_lose_no_syn_without_migration() -> Result<()> {
    closes_lose_nothing(Family::V6, Closing::Old, &["--no-migration"])
}

fn rollbacks_over_ipv4_lose_no_syn() -> Result<()> {
    closes_lose_nothing(Family::V4, Closing::New, &[])
}

fn rollbacks_over_ipv4_lose_no_syn_without_migration() -> Result<()> {
    closes_lose_nothing(Family::V4, Closing::New, &["--no-migration"])
}

fn without_tombstones_flips_forward_lose_syns() -> Result<()> {
    closes_lose_syns(Family::V6, Closing::Old, 20)
}

fn without_tombstones_rollbacks_lose_syns() -> Result<()> {
    // Of each generation only the last that closes is the first of the bucket.
    closes_lose_syns(Family::V4, Closing::New, 1)
}

fn closes_lose_nothing(family: Family, closing: Closing, args: &[&str]) -> Result<()> {
    let run = Run::new(family, args)?;
    // One round more than needed: its tombstone stays open.
    let closes = usize::try_from(scaled(CLOSES))?;
    let outcome = run.close(closing, closes / LISTENERS + 1, LISTENERS)?;
    let FloodReport {
        lost, rst, sent, ..
    } = outcome.flood;
    note(&format!(
        "{family:?} {args:?}: {} closes, {lost} of {sent} SYNs lost, {rst} resets, {:.0} SYN/s",
        outcome.closes, outcome.flood.per_second
    ));
    ensure!(outcome.closes >= closes, "{outcome:?}");
    ensure!(lost == 0 && rst == 0, "{outcome:?}");
    ensure!(
        sent >= 10 * outcome.closes as u64,
        "too few SYNs to meet a close: {outcome:?}"
    );
    ensure!(
        outcome.steered >= sent,
        "SYNs went past the program: {outcome:?}"
    );
    ensure!(
        outcome.fds.0 == outcome.fds.1,
        "descriptors of the agent: {outcome:?}"
    );
    Ok(())
}

/// The same until the first loss; where that takes too long, until the first SYN that the program
/// did not see, which may become one. On one processor a lookup cannot meet a close.
fn closes_lose_syns(family: Family, closing: Closing, listeners: usize) -> Result<()> {
    let args = ["--no-migration", "--no-tombstones"];
    let (mut closes, mut lost, mut past) = (0, 0, 0);
    let at_a_time = usize::try_from(scaled(200))?;
    let met = |lost, past| lost > 0 || (is_slow() && past > 0);
    while !met(lost, past) && closes < 5000 {
        let outcome = Run::new(family, &args)?.close(closing, at_a_time / listeners, listeners)?;
        closes += outcome.closes;
        lost += outcome.flood.lost;
        past += outcome.flood.sent.saturating_sub(outcome.steered);
    }
    note(&format!(
        "{family:?} {args:?}: {closes} closes, {past} SYNs went past the program, {lost} lost"
    ));
    let processors = std::thread::available_parallelism()?.get();
    ensure!(
        met(lost, past) || processors == 1,
        "{closes} closes without a tombstone have lost nothing"
    );
    Ok(())
}

/// Which generation closes after a flip from one to the next.
#[derive(Clone, Copy, Debug)]
enum Closing {
    /// The old one, after each flip.
    Old,
    /// The new one, after each flip and rollback.
    New,
}

/// A namespace and an agent.
///
/// One at a time: the flood of another would keep this one's from the processors.
struct Run {
    _alone: MutexGuard<'static, ()>,
    netns: Netns,
    agent: Agent,
    family: Family,
}

#[derive(Debug)]
struct Outcome {
    flood: FloodReport,
    /// Listeners that the agent has closed.
    closes: usize,
    /// SYNs that the program found a listener for.
    steered: u64,
    /// Descriptors that the agent had open after a few generations, and after all of them.
    fds: (usize, usize),
}

impl Run {
    fn new(family: Family, args: &[&str]) -> Result<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let netns = Netns::new()?;
        // Without state there is nothing to drain, and each SYN is answered at once or never.
        netns.sysctl("net.ipv4.tcp_syncookies", "2")?;
        let args = args.iter().map(ToString::to_string).collect();
        let agent = Agent::start_with(
            &netns,
            Options {
                args,
                ..Options::default()
            },
        )?;
        Ok(Self {
            _alone: alone,
            netns,
            agent,
            family,
        })
    }

    /// Replaces generations under a flood.
    fn close(&self, closing: Closing, rounds: usize, listeners: usize) -> Result<Outcome> {
        let any: IpAddr = match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let start = |number: usize| {
            let name = format!("gen{number}");
            Fleet::start(
                &self.netns,
                &self.agent,
                name,
                (any, 4000).into(),
                listeners,
            )
        };
        let mut operator = Operator::new(&self.agent)?;
        let mut working = start(1)?;
        wait::until("the first generation works", SOON, || {
            operator
                .service()
                .is_ok_and(|service| service.working.is_some())
        })?;
        let to = SocketAddr::new(raw::flood::server(self.family), 4000);
        let flood = Flood::start(&self.netns, to, 1_000_000_000, 600 * SECOND)?;
        let mut fds = Vec::new();
        for number in 2..rounds + 2 {
            let new = start(number)?;
            let over = match closing {
                Closing::Old => {
                    operator.flip(&new.name, false, SOON)?;
                    operator.drained(2 * SOON)?;
                    std::mem::replace(&mut working, new)
                }
                Closing::New => {
                    for to in [&new, &working] {
                        operator.flip(&to.name, true, SOON)?;
                        operator.drained(2 * SOON)?;
                    }
                    operator.retire(&new.name)?;
                    new
                }
            };
            self.finish(over, &mut operator)?;
            fds.push(self.agent.open_fds()?);
        }
        let flood = flood.stop()?;
        let closes = self.agent.log().matches("closed a listener").count();
        self.agent.check_counters()?;
        let steered = operator
            .service()?
            .endpoints
            .iter()
            .map(|e| e.selected)
            .sum();
        let fds = (fds[fds.len().min(4) - 1], fds[fds.len() - 1]);
        Ok(Outcome {
            flood,
            closes,
            steered,
            fds,
        })
    }

    /// Waits until a generation has closed, and the agent has closed what it held of it.
    fn finish(&self, over: Fleet, operator: &mut Operator) -> Result<()> {
        let name = over.finish()?;
        wait::until(&format!("{name} is gone"), SOON, || {
            operator
                .service()
                .is_ok_and(|s| s.generations.iter().all(|g| g.name.as_str() != name))
        })
        .with_context(|| self.agent.log())?;
        for endpoint in operator.service()?.endpoints {
            ensure!(endpoint.tombstones <= 1, "{endpoint:?}");
        }
        Ok(())
    }
}

/// Listeners that close in each test that must not lose a SYN.
const CLOSES: u32 = 2000;
const LISTENERS: usize = 40;
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        flips_forward_over_ipv6_lose_no_syn
        flips_forward_over_ipv6_lose_no_syn_without_migration
        rollbacks_over_ipv4_lose_no_syn
        rollbacks_over_ipv4_lose_no_syn_without_migration
        without_tombstones_flips_forward_lose_syns
        without_tombstones_rollbacks_lose_syns
    }
}
