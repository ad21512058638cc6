//! Queues that are full: of connections that nobody accepts, and of handshakes.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use rustix::process::Signal;
use synflip_bed::{raw::Reply, wait};
use synflip_wire::Phase;

use crate::{
    background::Background,
    both,
    clients::{answered, ask},
    scene::{self, REQUEST, SOON, Scene},
};

/// The old generation's queue is full at the flip: a handshake cannot end, and no other begins.
fn a_full_old_queue_is_served_and_who_waits_before_it_goes_to_the_new_one() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[])?;
        let spec = scene.spec(1, 1).arg("--stop-accepting").arg("--backlog=2");
        let old = scene.start(&spec)?;
        let mut held = scene.half_open(1)?.remove(0);
        // A queue takes one more than its length.
        let queued = ask(&scene, 3)?;
        held.ack()?;
        held.send(REQUEST)?;
        scene.wait_pending("gen1", 3, 1)?;
        let _new = scene.start(&scene.spec(2, 1))?;
        thread::scope(|scope| {
            // Its SYN is dropped, and sent again after a second.
            let waiting = scope.spawn(|| ask(&scene, 1));
            wait::pause(200 * MS);
            let mut flip = Background::flip(&scene.agent, "gen2")?;
            let waiting = waiting.join().map_err(|_panic| anyhow!("panicked"))??;
            for client in waiting {
                ensure!(
                    answered(client)? == 2,
                    "who waited came to the old generation"
                );
            }
            scene.wait_pending("gen1", 3, 1)?;
            flip.still_runs()?;
            old.signal(Signal::USR1)?;
            for client in queued {
                ensure!(answered(client)? == 1, "a queued connection went elsewhere");
            }
            let again = held.recv_syn_ack(SOON)?;
            ensure!(again == Reply::SynAck, "no SYN-ACK again but {again:?}");
            ensure!(
                scene::complete(&mut held)? == 1,
                "a handshake went elsewhere"
            );
            flip.finish()?;
            ensure!(old.wait_exit(SOON)?.served == 4, "not all were served");
            scene.check_steered(5)
        })
    })
}

/// The new generation is stuck: going back helps those who wait before its queue, and its end
/// those in it.
fn a_full_new_queue_is_left_by_a_rollback() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[])?;
        let _old = scene.start(&scene.spec(1, 1))?;
        let spec = scene.spec(2, 1).arg("--stop-accepting").arg("--backlog=1");
        let stuck = scene.start(&spec)?;
        scene.agent.flip_with("gen2", &["--keep"])?;
        let queued = ask(&scene, 2)?;
        scene.wait_pending("gen2", 2, 0)?;
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ask(&scene, 1));
            wait::pause(200 * MS);
            let mut back = Background::flip(&scene.agent, "gen1")?;
            let waiting = waiting.join().map_err(|_panic| anyhow!("panicked"))??;
            for client in waiting {
                ensure!(
                    answered(client)? == 1,
                    "who waited came to the stuck generation"
                );
            }
            scene.wait_phase("gen2", Phase::Draining)?;
            back.still_runs()?;
            stuck.signal(Signal::KILL)?;
            for client in queued {
                ensure!(answered(client)? == 1, "answered by who is dead");
            }
            back.finish()?;
            scene.wait_gone("gen2")?;
            scene.check_steered(3)
        })
    })
}

/// A handshake that found the queue of handshakes full was answered with a cookie, and belongs to
/// nobody; the others belong to the generation that they came to.
fn requests_and_cookies_of_one_rush_are_all_served() -> Result<()> {
    both(|family| {
        let scene = Scene::new(family, &[("net.ipv4.tcp_syncookies", "1")])?;
        let old = scene.start(&scene.spec(1, 1).arg("--backlog=4"))?;
        let _new = scene.start(&scene.spec(2, 1))?;
        let mut rush = scene.half_open(RUSH)?;
        let (_, requests) = scene.pending("gen1")?;
        ensure!(
            (1..RUSH).contains(&requests),
            "{requests} requests of {RUSH}"
        );
        let mut flip = Background::flip(&scene.agent, "gen2")?;
        scene.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        let mut by = BTreeMap::new();
        for half_open in &mut rush {
            *by.entry(scene::complete(half_open)?).or_insert(0) += 1;
        }
        let expected = BTreeMap::from([(1, requests), (2, RUSH - requests)]);
        ensure!(by == expected, "{by:?}, not {expected:?}");
        flip.finish()?;
        ensure!(
            old.wait_exit(SOON)?.served == requests,
            "not all were served"
        );
        scene.check_steered(RUSH)
    })
}

const RUSH: u64 = 24;
const MS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_full_old_queue_is_served_and_who_waits_before_it_goes_to_the_new_one
        a_full_new_queue_is_left_by_a_rollback
        requests_and_cookies_of_one_rush_are_all_served
    }
}
