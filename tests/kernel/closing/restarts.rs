//! Generations that follow each other, and close, under a flood of SYNs.

use std::{
    mem,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Fixture, Setup,
    product::Operator,
    raw::{self, Flood, FloodReport},
    wait::{SECOND, SOON},
};

use super::fleet::Fleet;

/// Which generation closes after a flip from one to the next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closing {
    /// The old one, after each flip.
    Old,
    /// The new one, after a flip and a rollback; three of four have never worked, which takes less
    /// time and closes as much.
    New,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) flood: FloodReport,
    /// Listeners that the agent has closed.
    pub(super) closes: usize,
    /// SYNs that the program found a listener for.
    pub(super) steered: u64,
    /// Descriptors that the agent had open after a few generations, and after all of them.
    pub(super) fds: (usize, usize),
}

/// Replaces generations so often under a flood; the agent has these arguments.
///
/// One at a time: the flood of another would keep this one's from the processors.
pub(super) fn close(
    family: Family,
    args: &[&str],
    closing: Closing,
    rounds: usize,
    listeners: usize,
) -> Result<Outcome> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Without state there is nothing to drain, and each SYN is answered at once or never.
    let fixture = Setup::new()
        .sysctl("net.ipv4.tcp_syncookies", "2")
        .agent_args(args)
        .start()?;
    let start =
        |number: usize| Fleet::start(&fixture, number, (family.any(), PORT).into(), listeners);
    let mut operator = Operator::new(&fixture.agent)?;
    let mut working = start(1)?;
    fixture.wait_works("gen1")?;
    let to = SocketAddr::new(raw::flood::server(family), PORT);
    let flood = Flood::start(&fixture.net.server, to, MOST, 600 * SECOND)?;
    let mut fds = Vec::new();
    for number in 2..rounds + 2 {
        let new = start(number)?;
        let over = match closing {
            Closing::Old => {
                operator.flip(&new.name, false, SOON)?;
                operator.drained(2 * SOON)?;
                mem::replace(&mut working, new)
            }
            Closing::New => {
                let works = number % 4 == 2;
                for to in [&new, &working].into_iter().filter(|_| works) {
                    operator.flip(&to.name, true, SOON)?;
                    operator.drained(2 * SOON)?;
                }
                operator.retire(&new.name)?;
                new
            }
        };
        finish(&fixture, over)?;
        fds.push(fixture.agent.open_fds()?);
    }
    ensure!(flood.sent() < MOST, "the flood was over before the closes");
    let flood = flood.stop()?;
    let closes = fixture.agent.log().matches("closed a listener").count();
    fixture.agent.check_counters()?;
    let endpoints = operator.service()?.endpoints;
    Ok(Outcome {
        flood,
        closes,
        steered: endpoints.iter().map(|endpoint| endpoint.selected).sum(),
        fds: (fds[fds.len().min(4) - 1], fds[fds.len() - 1]),
    })
}

/// Waits until a generation has closed, and the agent has closed what it held of it.
fn finish(fixture: &Fixture, over: Fleet) -> Result<()> {
    let name = over.finish()?;
    for endpoint in fixture.wait_gone(&name)?.endpoints {
        ensure!(endpoint.tombstones <= 1, "{endpoint:?}");
    }
    Ok(())
}

const PORT: u16 = 4000;
/// SYNs that a flood has at its disposal: minutes of it.
const MOST: u64 = 100_000_000;
