//! Promise: drained means drained. What was queued or half-open at the commit is served by the
//! generation it belongs to, and no flip says that it is over before that.

#[path = "common/background.rs"]
mod background;
#[path = "pending/deferred.rs"]
mod deferred;
#[path = "common/scene.rs"]
mod scene;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, note,
    product::{Drained, Generation},
    wait,
};
use synflip_wire::{DrainEnd, Phase};

use background::Background;
use scene::{SOON, Scene};

fn a_queue_is_served_before_the_flip_returns() -> Result<()> {
    a_queue_is_served("0")
}

/// A connection made from a cookie is queued without ever having been a request.
fn a_queue_made_from_cookies_is_served_before_the_flip_returns() -> Result<()> {
    a_queue_is_served("2")
}

fn a_queue_is_served(syncookies: &str) -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[("net.ipv4.tcp_syncookies", syncookies)])?;
        let old = scene.start(&scene.spec(1, 3).arg("--stop-accepting"))?;
        let clients = scene.connect(QUEUED)?;
        scene.wait_pending("gen1", QUEUED, 0)?;
        let _new = scene.start(&scene.spec(2, 2))?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        wait::pause(300 * MS);
        flip.still_runs()?;
        ensure!(
            scene.pending("gen1")? == (QUEUED, 0),
            "{:?}",
            scene.pending("gen1")
        );
        old.signal(Signal::USR1)?;
        for client in clients {
            let by = answered(client)?;
            ensure!(by == 1, "a queued connection was served by generation {by}");
        }
        let drained = flip.finish()?;
        ensure!(at_commit(&drained)? == (QUEUED, 0), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == QUEUED, "{exit:?}");
        scene.check_steered(QUEUED)?;

        // The same queue without steering.
        let scene = Scene::new(family, &[])?;
        let old = Generation::start_plain(&scene.netns, &scene.spec(1, 3).arg("--stop-accepting"))?;
        let clients = scene.connect(QUEUED)?;
        let _new = Generation::start_plain(&scene.netns, &scene.spec(2, 2))?;
        old.signal(Signal::TERM)?;
        old.wait_exit(SOON)?;
        let lost = clients
            .into_iter()
            .filter_map(|client| answered(client).err())
            .count();
        note(&format!(
            "{family:?}: plain servers lose {lost} of {QUEUED} queued connections"
        ));
        ensure!(
            lost > 0,
            "a queue that plain servers serve too proves nothing"
        );
    }
    Ok(())
}

fn half_open_handshakes_end_on_the_old_generation() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[])?;
        let old = scene.start(&scene.spec(1, 3))?;
        let mut held = scene.half_open(HALF_OPEN)?;
        scene.wait_pending("gen1", 0, HALF_OPEN)?;
        let _new = scene.start(&scene.spec(2, 2))?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        ensure!(
            scene.handshake()? == 2,
            "a new connection went to the old generation"
        );
        // Beyond the first retransmission of the SYN-ACK.
        wait::pause(2500 * MS);
        flip.still_runs()?;
        ensure!(
            scene.pending("gen1")? == (0, HALF_OPEN),
            "{:?}",
            scene.pending("gen1")
        );
        let mut last = held.pop().context("half-open handshakes")?;
        for half_open in &mut held {
            let by = scene::complete(half_open)?;
            ensure!(by == 1, "a half-open handshake went to generation {by}");
        }
        scene.wait_pending("gen1", 0, 1)?;
        // Several readings of the agent later one is still missing.
        wait::pause(500 * MS);
        flip.still_runs()?;
        ensure!(
            scene::complete(&mut last)? == 1,
            "the last went to another generation"
        );
        let drained = flip.finish()?;
        ensure!(at_commit(&drained)? == (0, HALF_OPEN), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == HALF_OPEN, "{exit:?}");
        scene.check_steered(HALF_OPEN + 1)?;

        // The same handshake without steering.
        let scene = Scene::new(family, &[])?;
        let old = Generation::start_plain(&scene.netns, &scene.spec(1, 3))?;
        let mut held = scene.half_open(1)?;
        let _new = Generation::start_plain(&scene.netns, &scene.spec(2, 2))?;
        old.signal(Signal::TERM)?;
        old.wait_exit(SOON)?;
        ensure!(
            held.iter_mut()
                .all(|half_open| scene::complete(half_open).is_err()),
            "a half-open handshake that plain servers serve too proves nothing"
        );
    }
    Ok(())
}

fn a_reset_ends_what_a_drain_waits_for() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[])?;
        let old = scene.start(&scene.spec(1, 2))?;
        let held = scene.half_open(2)?;
        scene.wait_pending("gen1", 0, 2)?;
        let _new = scene.start(&scene.spec(2, 2))?;
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        for mut half_open in held {
            flip.still_runs()?;
            half_open.rst()?;
        }
        let drained = flip.finish()?;
        ensure!(at_commit(&drained)? == (0, 2), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.accepted == 0, "{exit:?}");
        scene.check_steered(2)?;
    }
    Ok(())
}

fn a_deadline_is_reported_and_closes_nothing() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[])?;
        let old = scene.start(&scene.spec(1, 2))?;
        let mut held = scene.half_open(1)?;
        let _new = scene.start(&scene.spec(2, 2))?;
        let cli = scene
            .agent
            .cli(&["flip", "--to", "gen2", "--timeout", "1", "--json"])?;
        ensure!(cli.code == 4, "{cli:?}");
        let told: Drained = serde_json::from_str(&cli.stdout).context("read the outcome")?;
        let certificate = told.drain.context("no certificate")?;
        ensure!(
            certificate.end == DrainEnd::DeadlinePassed,
            "{certificate:?}"
        );
        ensure!(certificate.drained_after_ms.is_none(), "{certificate:?}");
        let left = certificate
            .listeners
            .iter()
            .filter(|l| l.empty_after_ms.is_none());
        let left: Vec<_> = left
            .filter_map(|l| l.steps.last())
            .map(|l| (l.queued, l.half_open))
            .collect();
        ensure!(left == [(0, 1)], "{certificate:?}");
        ensure!(
            scene.pending("gen1")? == (0, 1),
            "{:?}",
            scene.pending("gen1")
        );
        scene.wait_phase("gen1", Phase::Draining)?;

        // Nothing was closed: the handshake goes on, and with its end the drain is over.
        let by = held
            .iter_mut()
            .map(scene::complete)
            .collect::<Result<Vec<_>>>()?;
        ensure!(by == [1], "served by {by:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == 1, "{exit:?}");
        scene.wait_gone("gen1")?;
        scene.check_steered(1)?;
    }
    Ok(())
}

/// What was queued and half-open on all listeners at the commit, if all are empty now.
fn at_commit(drained: &Drained) -> Result<(u64, u64)> {
    let certificate = drained.drain.as_ref().context("no certificate")?;
    ensure!(certificate.end == DrainEnd::Drained, "{certificate:?}");
    ensure!(certificate.drained_after_ms.is_some(), "{certificate:?}");
    let mut sum = (0, 0);
    for listener in &certificate.listeners {
        let (Some(first), Some(last)) = (listener.steps.first(), listener.steps.last()) else {
            bail!("a listener without a reading: {certificate:?}");
        };
        ensure!(
            last.is_empty() && listener.empty_after_ms.is_some(),
            "{certificate:?}"
        );
        sum = (sum.0 + first.queued, sum.1 + first.half_open);
    }
    Ok(sum)
}

/// Waits for the answer to what [`Scene::connect`] has sent; returns the generation's number.
fn answered(mut client: TcpStream) -> Result<u32> {
    client.set_read_timeout(Some(SOON))?;
    let mut answer = [0; 16];
    client.read_exact(&mut answer).context("read the answer")?;
    scene::generation(&answer)
}

impl Scene {
    /// A whole connection; returns the generation that served it.
    fn handshake(&self) -> Result<u32> {
        let mut one = self.half_open(1)?;
        scene::complete(one.first_mut().context("a handshake")?)
    }

    /// Connects the kernel's own clients, and sends their requests.
    fn connect(&self, count: u64) -> Result<Vec<TcpStream>> {
        self.netns.run(|| {
            (0..count)
                .map(|_| {
                    let mut client = TcpStream::connect(self.to).context("connect")?;
                    client
                        .write_all(scene::REQUEST)
                        .context("send the request")?;
                    Ok(client)
                })
                .collect()
        })
    }
}

const MS: Duration = Duration::from_millis(1);
const QUEUED: u64 = 40;
const HALF_OPEN: u64 = 8;

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_queue_is_served_before_the_flip_returns
        a_queue_made_from_cookies_is_served_before_the_flip_returns
        half_open_handshakes_end_on_the_old_generation
        a_reset_ends_what_a_drain_waits_for
        a_deadline_is_reported_and_closes_nothing
    }
}
