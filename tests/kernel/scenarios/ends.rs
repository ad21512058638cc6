//! How a drain ends that clients do not help with, and what a server notices of its end.

use anyhow::{Context as _, Result, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use synflip_bed::{capability::is_slow, product::Drained};
use synflip_wire::{DrainEnd, Event, Phase};

use crate::{
    background::Background,
    bare::Bare,
    both,
    clients::{answered, ask, came_to},
    scene::{self, SOON, Scene},
};

/// Clients that never answer, of which a flood of SYNs leaves thousands, hold a drain up for as
/// long as the kernel goes on sending SYN-ACKs, and no longer.
fn who_never_answers_holds_a_drain_up_until_the_kernel_gives_up() -> Result<()> {
    both(|family| {
        // After 3 seconds, or 7.
        let retries = if is_slow() { "2" } else { "1" };
        let scene = Scene::new(family, &[("net.ipv4.tcp_synack_retries", retries)])?;
        let old = scene.start(&scene.spec(1, 2))?;
        let _new = scene.start(&scene.spec(2, 2))?;
        let mut alive = scene.half_open(1)?.remove(0);
        drop(scene.half_open(DEAD)?);
        let flip = ["flip", "--to", "gen2", "--timeout", "1", "--json"];
        let cli = scene.agent.cli(&flip)?;
        ensure!(cli.code == 4, "{cli:?}");
        let flip: Drained = serde_json::from_str(&cli.stdout)?;
        let certificate = flip.drain.context("no certificate")?;
        ensure!(
            certificate.end == DrainEnd::DeadlinePassed,
            "{certificate:?}"
        );
        let left = certificate
            .listeners
            .iter()
            .filter_map(|listener| listener.steps.last());
        let left: u64 = left.map(|step| step.half_open).sum();
        ensure!(left == DEAD + 1, "{left} left: {certificate:?}");
        ensure!(
            scene::complete(&mut alive)? == 1,
            "the living one went elsewhere"
        );
        ensure!(old.wait_exit(SOON)?.served == 1, "not served");
        scene.wait_gone("gen1")?;
        scene.check_steered(DEAD + 1)
    })
}

/// As long as anybody has a descriptor of a listener, an epoll instance that once watched it goes
/// on reporting it: a server that closes without a word to epoll must not be woken for ever.
fn a_closed_listener_does_not_haunt_its_server() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[])?;
        let mut old = Bare::start(&scene, 1, 2)?;
        old.is_told(Event::Working)?;
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        for listener in &old.listeners {
            epoll::add(&watch, listener, EventData::new_u64(0), EventFlags::IN)?;
        }
        let events = || -> Result<usize> {
            let mut events = Vec::with_capacity(8);
            let now = Default::default();
            Ok(epoll::wait(
                &watch,
                rustix::buffer::spare_capacity(&mut events),
                Some(&now),
            )?)
        };
        let queued = ask(&scene, 1)?;
        ensure!(events()? == 1, "epoll does not report what is queued");
        let new = Bare::start(&scene, 2, 2)?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        old.serve(1)?;
        for client in queued {
            ensure!(answered(client)? == 1, "a queued connection went elsewhere");
        }
        flip.finish()?;
        old.is_told(Event::Drained)?;
        old.close()?;
        scene.wait_gone("gen1")?;
        ensure!(
            came_to(&scene, &[&new])?.iter().all(|count| *count > 0),
            "not steered"
        );
        ensure!(events()? == 0, "epoll reports a closed listener");
        Ok(())
    })
}

const DEAD: u64 = 200;

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        who_never_answers_holds_a_drain_up_until_the_kernel_gives_up
        a_closed_listener_does_not_haunt_its_server
    }
}
