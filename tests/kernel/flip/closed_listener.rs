//! Promise: a closed listener does not haunt its server. As long as anybody has a descriptor of a
//! listener, an epoll instance that once watched it goes on reporting it: a server that closes
//! without a word to epoll must not be woken for ever.

use anyhow::{Result, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use synflip_bed::{Family, Setup, network::answers};
use synflip_wire::{Event, Phase};

use crate::helpers::bare::{Bare, came_to};

#[test]
fn a_closed_listener_does_not_haunt_its_server() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let mut old = Bare::start(&fixture, 1, 2)?;
        old.is_told(Event::Working)?;
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        for listener in &old.listeners {
            epoll::add(&watch, listener, EventData::new_u64(0), EventFlags::IN)?;
        }
        let events = || -> Result<usize> {
            let mut events = Vec::with_capacity(8);
            let room = rustix::buffer::spare_capacity(&mut events);
            Ok(epoll::wait(&watch, room, Some(&Default::default()))?)
        };
        let queued = fixture.net.clients(1)?;
        ensure!(events()? == 1, "epoll does not report what is queued");
        let new = Bare::start(&fixture, 2, 2)?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        old.serve(1)?;
        let by = answers(queued)?;
        ensure!(by == [1], "a queued connection went to {by:?}");
        flip.drained()?;
        old.is_told(Event::Drained)?;
        old.close()?;
        fixture.wait_gone("gen1")?;
        let came = came_to(&fixture, &[&new])?;
        ensure!(came.iter().all(|count| *count > 0), "not steered: {came:?}");
        ensure!(events()? == 0, "epoll reports a closed listener");
        Ok(())
    })
}
