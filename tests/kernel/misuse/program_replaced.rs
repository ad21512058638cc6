//! Promise: nothing is lost when a member of the reuseport group gives it another program, or takes
//! it away, as any may: the agent brings it back within a second, and each flip does.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, Line, Setup, attach_classic_program, detach_program,
    network::{REQUEST, receive},
    product::Agent,
    wait::{self, MS, SOON},
};
use synflip_wire::{Event, Phase};

use crate::helpers::{
    at_once::at_once,
    bare::{ASKED, Bare, came_to},
};

/// What a member does to its group.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Takes the program away: the kernel's hash goes over all listeners.
    Detach,
    /// Gives it one that sends everything to the oldest listener.
    Classic,
    /// Registers with another agent, whose program knows nothing of this one's table.
    AnotherAgent,
}

#[test]
fn a_flip_brings_the_program_back() -> Result<()> {
    at_once([Blow::Detach, Blow::Classic, Blow::AnotherAgent], |blow| {
        Family::both(|family| {
            let fixture = Setup::new().family(family).start()?;
            let mut old = Bare::start(&fixture, 1, 2)?;
            old.is_told(Event::Working)?;
            let mut new = Bare::start(&fixture, 2, 2)?;
            let other = match blow {
                Blow::Detach => detach_program(&old.listeners[1]).map(|()| None)?,
                Blow::Classic => attach_classic_program(&old.listeners[1], 0).map(|()| None)?,
                Blow::AnotherAgent => {
                    let mut agent = Agent::start(&fixture.net.server)?;
                    let server = Bare::start_at(&fixture.net, &agent, 3, 2)?;
                    // It would put its own back each second, as ours does.
                    agent.kill(Signal::KILL)?;
                    Some((server, agent))
                }
            };
            let all = |new: &Bare| {
                let mut servers = vec![&old, new];
                servers.extend(other.as_ref().map(|(server, _)| server));
                came_to(&fixture, &servers)
            };
            let before = all(&new)?;
            let steered = before[..2].iter().all(|count| *count > 0)
                && before[..2].iter().sum::<usize>() == ASKED;
            // Unless the agent, which looks each second, was faster.
            let is_back = fixture.agent.log().contains(NOTICED);
            ensure!(
                !steered || is_back,
                "the program is still there: {before:?}"
            );

            let flip = fixture.agent.begin_flip("gen2")?;
            new.is_told(Event::Working)?;
            let after = all(&new)?;
            let steered = after[2..4].iter().all(|count| *count > 0)
                && after[2..4].iter().sum::<usize>() == ASKED;
            ensure!(steered, "{before:?} before, {after:?} after the flip");
            flip.drained()?;
            old.is_told(Event::Drained)?;
            old.close()?;
            fixture.wait_gone("gen1")?;
            fixture.check_steered(ASKED as u64)
        })
    })
    .map(drop)
}

/// What the agent says then.
const NOTICED: &str = "has replaced or detached the program";

/// Connections that come past the program.
const LATE: usize = 3;

/// So often it is taken away, if the agent is faster than the connections.
const TRIES: u32 = 5;

/// The program goes while a generation drains, and connections come to it again.
#[test]
fn a_drain_goes_on_while_connections_come_past_the_program() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let mut old = Bare::start(&fixture, 1, 2)?;
        old.is_told(Event::Working)?;
        let mut held = fixture.net.half_open(1)?;
        fixture.wait_pending("gen1", 0, 1)?;
        let generations = fixture.agent.service()?.generations;
        let listeners = &generations.first().context("gen1")?.listeners;
        let busy = listeners.iter().position(|l| l.half_open == Some(1));
        let busy = busy.context("a listener with the handshake")?;
        let empty = 1 - busy;
        let new = Bare::start(&fixture, 2, 2)?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        // One listener has been seen empty.
        wait::pause(300 * MS);
        // The agent brings the program back as soon as it sees the first of them, or that the program
        // is gone: how many still come to the old generation is a race.
        let mut late = Vec::new();
        for _ in 0..TRIES {
            attach_classic_program(&new.listeners[0], u32::try_from(empty)?)?;
            late.extend(fixture.net.clients(LATE)?);
            if fixture.pending("gen1")?.0 > 0 {
                break;
            }
        }
        wait::until("a late connection on gen1", SOON, || {
            let pending = fixture.pending("gen1");
            pending.is_ok_and(|(queued, half_open)| queued > 0 && half_open == 1)
        })?;

        let last = held.first_mut().context("a handshake")?;
        last.ack()?;
        last.send(REQUEST)?;
        wait::until("the handshake is over", SOON, || {
            old.accept_at(busy).is_ok_and(|count| count == 1)
        })?;
        ensure!(receive(last)? == 1, "served by another generation");
        wait::pause(500 * MS);
        flip.still_runs()?;
        let came = old.accept_at(empty)?;
        let others: usize = new.accept()?.iter().sum();
        ensure!(
            came > 0 && came + others == late.len(),
            "{came} came to the old generation, {others} to the new one"
        );
        drop(late);
        flip.drained()?;
        old.is_told(Event::Drained)?;
        let log = fixture.agent.log();
        ensure!(log.contains("replaced or detached the program"), "{log}");
        // Nothing comes any more to what is told to close.
        let came = came_to(&fixture, &[&old, &new])?;
        ensure!(
            came[..2] == [0, 0] && came[2..].iter().sum::<usize>() == ASKED,
            "{came:?}"
        );
        old.close()?;
        fixture.wait_gone("gen1")?;
        fixture.check_steered(1 + ASKED as u64)
    })
}
