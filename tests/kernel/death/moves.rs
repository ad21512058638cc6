//! A listener closes before what is pending on it has ended.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    capability,
    product::{Drained, Generation, Spec},
    wait,
};
use synflip_wire::{DrainEnd, Event, Phase};

use crate::{
    background::Background,
    bare::Bare,
    both,
    fast_open::FAST_OPEN,
    points::Points,
    scene::{SOON, Scene},
};

/// Both ways to rescue a queue, whatever this kernel can do.
const REGIMES: [&[&str]; 2] = [&[], &["--no-migration"]];

/// A descriptor keeps a listener open, but not from being shut down: only the kernel can save
/// what is pending on it then.
fn what_is_pending_moves_when_the_old_server_shuts_down() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    both(|family| {
        let scene = Scene::new(family, &[FAST_OPEN])?;
        let mut old = Bare::start(&scene, 1, 1)?;
        old.is_told(Event::Working)?;
        let mut points = Points::reach(&scene, "gen1")?;
        let _new = scene.start(&scene.spec(2, 1))?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        old.shut_down()?;
        ended(&flip.finish()?)?;
        old.is_told(Event::Drained)?;
        points.go_on(&scene, Some("gen2"))?;
        wake(&scene)?;
        points.are_answered_by(2)?;
        old.close()?;
        scene.wait_gone("gen1")?;
        moved(&scene)
    })
}

/// The groups hold the program, and the program the table: a server can die without anyone.
fn what_is_pending_moves_without_an_agent() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    both(|family| {
        let mut scene = Scene::new(family, &[FAST_OPEN])?;
        let old = scene.start(&scene.spec(1, 1).arg("--stop-accepting"))?;
        let mut points = Points::reach(&scene, "gen1")?;
        let _new = scene.start(&scene.spec(2, 1))?;
        scene.agent.flip_with("gen2", &["--no-wait"])?;
        scene.agent.kill(Signal::KILL)?;
        drop(old);
        points.go_on(&scene, None)?;
        wake(&scene)?;
        points.are_answered_by(2)?;
        scene.agent.restart(&scene.netns)?;
        scene.wait_gone("gen1")?;
        moved(&scene)
    })
}

/// The agent's duplicate keeps the listener of a dead server open: what is queued on it, and what
/// comes to be queued, is accepted by the next, which is lent it.
fn what_is_pending_on_a_killed_server_is_handed_over() -> Result<()> {
    for regime in REGIMES {
        both(|family| {
            let scene = Scene::with(family, &[FAST_OPEN], regime)?;
            let old = scene.start(&scene.spec(1, 1).arg("--stop-accepting"))?;
            let mut points = Points::reach(&scene, "gen1")?;
            let new = scene.start(&scene.spec(2, 1))?;
            let mut flip = Background::flip(&scene.agent, "gen2")?;
            scene.wait_phase("gen1", Phase::Draining)?;
            flip.still_runs()?;
            old.signal(Signal::KILL)?;
            points.go_on(&scene, None)?;
            points.are_answered_by(2)?;
            ended(&flip.finish()?)?;
            scene.wait_gone("gen1")?;
            scene.agent.check_counters()?;
            new.signal(Signal::TERM)?;
            let exit = new.wait_exit(SOON)?;
            ensure!(exit.served == Points::COUNT as u64, "{exit:?}");
            Ok(())
        })
        .with_context(|| format!("{regime:?}"))?;
    }
    Ok(())
}

/// Servers that link nothing cannot be handed anything. What the kernel cannot move, or not on
/// this kernel, is relayed: as long as a handshake is not over, its listener stays open.
fn what_is_pending_on_a_killed_server_that_was_adopted_moves_or_is_relayed() -> Result<()> {
    for regime in REGIMES {
        both(|family| {
            let scene = Scene::with(family, &[FAST_OPEN], regime)?;
            let old = adopted(&scene, &scene.spec(1, 1).arg("--stop-accepting"))?;
            scene.wait_phase("gen1", Phase::Working)?;
            let mut points = Points::reach(&scene, "gen1")?;
            let _new = adopted(&scene, &scene.spec(2, 1))?;
            scene.agent.flip_with("gen2", &["--no-wait"])?;
            old.signal(Signal::KILL)?;
            points.go_on(&scene, None)?;
            points.are_answered_by(2)?;
            scene.wait_gone("gen1")?;
            scene.agent.check_counters()
        })
        .with_context(|| format!("{regime:?}"))?;
    }
    Ok(())
}

/// Nobody is there to be handed anything: the working generation's process has not come back to
/// an agent that was started anew. With migration the kernel moves what is queued to its
/// listeners; without, the agent holds it until the process comes.
fn what_nobody_can_be_handed_moves_or_is_held() -> Result<()> {
    let can_move = capability::has("migration_wakes")?;
    for (regime, moves) in REGIMES.into_iter().zip([can_move, false]) {
        both(|family| {
            let mut scene = Scene::with(family, &[FAST_OPEN], regime)?;
            let old = scene.start(&scene.spec(1, 1).arg("--stop-accepting"))?;
            let mut points = Points::reach(&scene, "gen1")?;
            let mut new = Bare::start(&scene, 2, 1)?;
            scene.agent.flip_with("gen2", &["--no-wait"])?;
            new.is_told(Event::Working)?;
            scene.agent.restart(&scene.netns)?;
            scene.wait_pending("gen1", 2, 2)?;
            old.signal(Signal::KILL)?;
            wait::until("the agent knows that it is dead", SOON, || {
                let generations = scene.service().map(|service| service.generations);
                generations.is_ok_and(|all| all.first().is_some_and(|gen1| gen1.pids.is_empty()))
            })?;
            points.go_on(&scene, None)?;
            if moves {
                new.serve(Points::COUNT)?;
            } else {
                scene.wait_pending("gen1", Points::COUNT as u64, 0)?;
                new.come_back(&scene)?;
                new.serve_handed(Points::COUNT)?;
            }
            points.are_answered_by(2)?;
            scene.wait_gone("gen1")?;
            scene.agent.check_counters()
        })
        .with_context(|| format!("{regime:?}"))?;
    }
    Ok(())
}

/// A plain server that is made a generation while it runs.
fn adopted(scene: &Scene, spec: &Spec) -> Result<Generation> {
    let server = Generation::start_plain(&scene.netns, spec)?;
    let pid = server.pid().to_string();
    let name = ["adopt", "--service", "web", "--generation", &server.name];
    let adopted = scene.agent.cli(&[&name[..], &["--pid", &pid]].concat())?;
    ensure!(adopted.code == 0, "{adopted:?}");
    Ok(server)
}

/// Checks that a drain is over.
fn ended(flip: &Drained) -> Result<()> {
    let end = flip.drain.as_ref().map(|certificate| certificate.end);
    ensure!(end == Some(DrainEnd::Drained), "{flip:?}");
    Ok(())
}

/// Makes a listener look at its queue on kernels where what moves does not wake it: with the next
/// connection.
fn wake(scene: &Scene) -> Result<()> {
    if !capability::has("migration_wakes")? {
        let mut next = scene.half_open(1)?;
        crate::scene::complete(next.first_mut().context("a handshake")?)?;
    }
    Ok(())
}

/// Checks that the program has moved each, and missed none.
fn moved(scene: &Scene) -> Result<()> {
    scene.agent.check_counters()?;
    let endpoints = scene.service()?.endpoints;
    let migrated: u64 = endpoints.iter().map(|endpoint| endpoint.migrated).sum();
    ensure!(migrated == Points::COUNT as u64, "{endpoints:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        what_is_pending_moves_when_the_old_server_shuts_down
        what_is_pending_moves_without_an_agent
        what_is_pending_on_a_killed_server_is_handed_over
        what_is_pending_on_a_killed_server_that_was_adopted_moves_or_is_relayed
        what_nobody_can_be_handed_moves_or_is_held
    }
}
