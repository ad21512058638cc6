//! Handshakes that the kernel keeps no request for, or that are over with the first segment.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::Family;
use synflip_wire::Phase;

use crate::{
    background::Background,
    fast_open::{FAST_OPEN, cookie, fast_open},
    scene::{self, SOON, Scene},
};

/// A cookie holds no listener: its connection belongs to whoever works when the ACK comes, and
/// every generation of the group can check it.
fn a_cookie_is_good_for_the_next_generation() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[("net.ipv4.tcp_syncookies", "2")])?;
        let old = scene.start(&scene.spec(1, 3))?;
        let mut held = scene.half_open(COOKIES)?;
        ensure!(
            scene.pending("gen1")? == (0, 0),
            "a request was kept: no cookies"
        );
        let new = scene.start(&scene.spec(2, 2))?;
        scene.agent.flip("gen2")?;
        // Gone altogether, before the handshakes go on.
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.accepted == 0, "{exit:?}");
        scene.wait_gone("gen1")?;
        for half_open in &mut held {
            let by = scene::complete(half_open)?;
            ensure!(by == 2, "served by generation {by}");
        }
        // Each SYN and each ACK of a cookie runs the program.
        scene.check_steered(2 * COOKIES)?;
        new.signal(Signal::TERM)?;
        let exit = new.wait_exit(SOON)?;
        ensure!(exit.served == COOKIES, "{exit:?}");
    }
    Ok(())
}

/// With Fast Open a connection is queued by its SYN, with data in it.
fn a_fast_open_is_served_by_the_generation_it_came_to() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[FAST_OPEN])?;
        let old = scene.start(&scene.spec(1, 2).arg("--stop-accepting"))?;
        let cookie = cookie(&scene)?;
        scene.wait_pending("gen1", 0, 0)?;
        let mut early = (0..FAST)
            .map(|_| fast_open(&scene, &cookie))
            .collect::<Result<Vec<_>>>()?;
        let pending = scene.pending("gen1")?;
        ensure!(pending.0 + pending.1 == FAST, "pending {pending:?}");

        let _new = scene.start(&scene.spec(2, 2))?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        let mut late = fast_open(&scene, &cookie)?;
        ensure!(
            scene::receive(&mut late)? == 2,
            "a new one went to the old generation"
        );
        flip.still_runs()?;
        old.signal(Signal::USR1)?;
        for fast in &mut early {
            let by = scene::receive(fast)?;
            ensure!(by == 1, "served by generation {by}");
        }
        let drained = flip.finish()?;
        let certificate = drained.drain.context("no certificate")?;
        let at_commit = certificate
            .listeners
            .iter()
            .filter_map(|listener| listener.steps.first());
        let at_commit: u64 = at_commit.map(|step| step.queued + step.half_open).sum();
        ensure!(at_commit == FAST, "{certificate:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == FAST, "{exit:?}");
        scene.check_steered(FAST + 1)?;
    }
    Ok(())
}

const COOKIES: u64 = 16;
const FAST: u64 = 6;

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_cookie_is_good_for_the_next_generation
        a_fast_open_is_served_by_the_generation_it_came_to
    }
}
