//! Promise: it makes no difference how many listeners there are. A reuseport group begins with
//! room for 128 and is copied when it grows; a message to the agent carries 128 descriptors.

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Line, Setup,
    network::{REQUEST, answers, receive},
    note,
};
use synflip_wire::{Event, Phase};

use crate::helpers::{
    bare::{ASKED, Bare, came_to},
    restarts::Restarts,
};

#[test]
fn hundreds_of_listeners_lose_nothing() -> Result<()> {
    for family in Family::BOTH {
        let seen = Restarts {
            listeners: 150..=160,
            ..Restarts::new(family, 4)
        }
        .steered()?;
        let listeners = seen.service.generations.iter().flat_map(|g| &g.listeners);
        let used = listeners.clone().filter(|listener| listener.selected > 0);
        let (used, all) = (used.count(), listeners.count());
        note(&format!("{family:?}: {used} of {all} listeners used"));
    }
    Ok(())
}

/// The program, and what is pending on the members, have to stay.
#[test]
fn a_group_that_grows_keeps_what_it_has_and_steers_to_all() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let mut old = Bare::start(&fixture, 1, 70)?;
        old.is_told(Event::Working)?;
        let queued = fixture.net.clients(3)?;
        let mut held = fixture.net.half_open(3)?;
        let new = Bare::start(&fixture, 2, 130)?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        fixture.wait_pending("gen1", 3, 3)?;
        flip.still_runs()?;
        let mut came = vec![0; 130];
        // Each of the new ones is missed by so many with a probability of less than 1 in 10,000.
        for _ in 0..2000_usize.div_ceil(ASKED) {
            let now = came_to(&fixture, &[&new])?;
            came.iter_mut().zip(now).for_each(|(sum, now)| *sum += now);
        }
        ensure!(came.iter().all(|count| *count > 0), "{came:?}");
        for half_open in &mut held {
            half_open.ack()?;
            half_open.send(REQUEST)?;
        }
        old.serve(6)?;
        let by = answers(queued)?;
        ensure!(by == [1; 3], "queued connections went to {by:?}");
        for half_open in &mut held {
            ensure!(receive(half_open)? == 1, "a handshake went elsewhere");
        }
        old.is_told(Event::Drained)?;
        flip.drained()?;
        old.close()?;
        fixture.wait_gone("gen1")?;
        fixture.check_steered(2000)
    })
}
