//! What is going on when the agent dies.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_agent::DieAt;
use synflip_bed::{
    fixture::{find, works},
    network::answers,
    wait::{self, SECOND, SOON},
};
use synflip_wire::{Phase, ServiceStatus};

use super::doomed::{Doomed, Played, SOME, trickle};

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Setting {
    /// The first generation of a service registers.
    Founding,
    /// A second one registers, under load; systemd keeps what the agent holds.
    Joining,
    /// A flip under load, and the old generation's end.
    Flip,
    /// The same, and systemd keeps what the agent holds.
    StoredFlip,
    /// A flip whose drain waits for what is queued.
    Drain,
    /// A flip back, whose old generation leaves a tombstone.
    Back,
    /// A generation that has never worked is retired, under load.
    Retiring,
    /// The working generation is killed with connections in its queues; systemd keeps what the
    /// agent holds, which nobody else does then.
    Death,
    /// The same of a generation that was adopted, as its successor is, which is lent nothing.
    Relay,
    /// One of two processes of the working generation is frozen, under load, and goes on.
    Frozen,
    /// An agent comes back and finds a service, under load.
    Return,
    /// The last generation leaves.
    End,
}

impl Setting {
    /// All of them. What one of them leads to is tried there, rather than in those that come
    /// after it: first come those in which there is most to be lost.
    pub(crate) const ALL: &[Self] = &[
        Self::Flip,
        Self::Drain,
        Self::Death,
        Self::Relay,
        Self::Frozen,
        Self::Back,
        Self::Joining,
        Self::Return,
        Self::StoredFlip,
        Self::Retiring,
        Self::End,
        Self::Founding,
    ];

    /// Plays it with an agent that dies and is started again, or without anything of the kind;
    /// returns what is left, and where it might have died.
    pub(crate) fn play(self, die_at: Option<DieAt>) -> Result<Played> {
        match self {
            Self::Founding => founding(die_at),
            Self::Joining => joining(die_at),
            Self::Flip => flip(die_at, false),
            Self::StoredFlip => flip(die_at, true),
            Self::Drain => drain(die_at),
            Self::Back => back(die_at),
            Self::Retiring => retiring(die_at),
            Self::Death => death(die_at),
            Self::Relay => relay(die_at),
            Self::Frozen => frozen(die_at),
            Self::Return => comeback(die_at),
            Self::End => end(die_at),
        }
    }
}

fn founding(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.start(&[])?;
    doomed.death(None)?;
    doomed.fixture.wait_works("gen1")?;
    doomed.finish(None, vec![first])
}

fn joining(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(true, die_at)?;
    let first = doomed.first(&[])?;
    let load = trickle(&doomed.fixture.net);
    doomed.may_die()?;
    let second = doomed.start(&[])?;
    doomed.death(Some(&load))?;
    let status = doomed.fixture.wait_back(&["gen1", "gen2"])?;
    ensure!(works(&status, "gen1") && status.epoch.0 == 1, "{status:#?}");
    doomed.flip("gen2")?;
    doomed.finish(Some(load), vec![first, second])
}

fn flip(die_at: Option<DieAt>, stored: bool) -> Result<Played> {
    let mut doomed = Doomed::new(stored, die_at)?;
    let first = doomed.first(&[])?;
    let second = doomed.start(&[])?;
    let load = trickle(&doomed.fixture.net);
    load.more(SOME)?;
    doomed.may_die()?;
    // What becomes of it depends on when the agent dies.
    let flip = doomed.fixture.agent.cli(&["flip", "--to", "gen2"])?;
    ensure!(die_at.is_some() || flip.code == 0, "{flip:?}");
    doomed.death(Some(&load))?;
    doomed.fixture.wait_back(&["gen2"])?;
    doomed.flip("gen2")?;
    doomed.ends(first)?;
    doomed.finish(Some(load), vec![second])
}

fn drain(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.first(&["--stop-accepting"])?;
    let second = doomed.start(&[])?;
    let waiting = doomed.fixture.net.clients(10)?;
    doomed.may_die()?;
    let flip = ["flip", "--to", "gen2", "--no-wait"];
    doomed.fixture.agent.cli(&flip)?;
    // An agent that lives has looked at the queues before it shows what is in them.
    doomed.fixture.agent.cli(&["status"])?;
    first.signal(Signal::USR1)?;
    ensure!(
        answers(waiting)? == [1; 10],
        "not all by those who had them"
    );
    doomed.death(None)?;
    doomed.fixture.wait_back(&["gen2"])?;
    doomed.flip("gen2")?;
    doomed.ends(first)?;
    doomed.finish(None, vec![second])
}

fn back(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.first(&[])?;
    let second = doomed.start(&[])?;
    let load = trickle(&doomed.fixture.net);
    load.more(SOME)?;
    doomed.fixture.agent.flip_with("gen2", &["--keep"])?;
    doomed.may_die()?;
    // On IPv4 the newest listener is the first of its hash bucket.
    doomed.fixture.agent.cli(&["flip", "--to", "gen1"])?;
    doomed.death(Some(&load))?;
    doomed.fixture.wait_back(&["gen1"])?;
    doomed.flip("gen1")?;
    doomed.ends(second)?;
    let status = doomed.fixture.agent.service()?;
    ensure!(works(&status, "gen1") && status.epoch.0 == 3, "{status:#?}");
    doomed.finish(Some(load), vec![first])
}

fn retiring(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.first(&[])?;
    let second = doomed.start(&[])?;
    let load = trickle(&doomed.fixture.net);
    doomed.may_die()?;
    let retire = ["retire", "--generation", "gen2"];
    doomed.fixture.agent.cli(&retire)?;
    doomed.death(Some(&load))?;
    // If it died before it had noted that, nothing is left of the wish.
    let status = doomed.fixture.wait_back(&["gen1"])?;
    if find(&status, "gen2")
        .is_some_and(|second| matches!(second.phase, Phase::Registered | Phase::Ready))
    {
        let retired = doomed.fixture.agent.cli(&retire)?;
        ensure!(retired.code == 0, "{retired:?}");
    }
    doomed.ends(second)?;
    let status = doomed.fixture.wait_back(&["gen1"])?;
    ensure!(works(&status, "gen1") && status.epoch.0 == 1, "{status:#?}");
    doomed.finish(Some(load), vec![first])
}

fn death(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(true, die_at)?;
    let first = doomed.first(&["--stop-accepting"])?;
    let second = doomed.start(&[])?;
    let waiting = doomed.fixture.net.clients(30)?;
    let load = trickle(&doomed.fixture.net);
    doomed.may_die()?;
    first.signal(Signal::KILL)?;
    doomed.death(None)?;
    ensure!(answers(waiting)? == [2; 30], "not all by the successor");
    load.more(SOME)?;
    doomed.finish(Some(load), vec![second])
}

fn relay(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::with(&["--no-migration"], true, die_at)?;
    let first = doomed.adopted(&["--stop-accepting"])?;
    doomed.fixture.wait_works("gen1")?;
    let second = doomed.adopted(&[])?;
    let waiting = doomed.fixture.net.clients(10)?;
    // Has the process that relays outlive the agent.
    let address = doomed.fixture.net.address;
    let idle = || TcpStream::connect_timeout(&address, SOON);
    let idle = doomed.fixture.net.client.run(idle)?;
    let carries = |service: &ServiceStatus| service.relayed.open == 1;
    doomed.may_die()?;
    first.kill()?;
    if die_at.is_none() {
        // A slow machine has pauses before, of which each might be the end.
        let all = |service: &ServiceStatus| service.relayed.total > 10;
        doomed.fixture.until("all are relayed", all)?;
    }
    doomed.death(None)?;
    ensure!(answers(waiting)? == [2; 10], "not all by the successor");
    doomed.fixture.until("one is relayed", carries)?;
    // An agent that has started that process has a descriptor more than one that has found it.
    doomed.restart()?;
    doomed.fixture.until("it still is", carries)?;
    drop(idle);
    doomed.finish(None, vec![second])
}

fn frozen(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.first(&[])?;
    let sibling = doomed.sibling()?;
    let load = trickle(&doomed.fixture.net);
    load.more(SOME)?;
    doomed.may_die()?;
    first.signal(Signal::STOP)?;
    // Until it is noticed, what is queued is accepted, and it has been asked.
    wait::pause(4 * SECOND);
    first.signal(Signal::CONT)?;
    wait::pause(2 * SECOND);
    doomed.death(Some(&load))?;
    doomed.finish(Some(load), vec![first, sibling])
}

fn comeback(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, None)?;
    let first = doomed.first(&[])?;
    let second = doomed.start(&[])?;
    let load = trickle(&doomed.fixture.net);
    load.more(SOME)?;
    doomed.die_returning(die_at, &load)?;
    let status = doomed.fixture.wait_back(&["gen1", "gen2"])?;
    ensure!(works(&status, "gen1") && status.epoch.0 == 1, "{status:#?}");
    doomed.flip("gen2")?;
    doomed.finish(Some(load), vec![first, second])
}

fn end(die_at: Option<DieAt>) -> Result<Played> {
    let mut doomed = Doomed::new(false, die_at)?;
    let first = doomed.first(&[])?;
    doomed.fixture.net.answers(20)?;
    doomed.may_die()?;
    first.signal(Signal::TERM)?;
    doomed.ends(first)?;
    // The hold has to pass.
    wait::pause(2 * SECOND);
    doomed.death(None)?;
    doomed.fixture.wait_over()?;
    let again = doomed.start(&[])?;
    doomed.fixture.wait_works("gen2")?;
    doomed.finish(None, vec![again])
}
