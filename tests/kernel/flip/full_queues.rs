//! Promise: a flip helps where an accept queue is full: nothing of that queue is lost, and who
//! waits before it goes to the generation that works.

use std::{net::TcpStream, thread};

use anyhow::{Result, anyhow, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, Line, Network, Setup,
    network::{REQUEST, answers, complete},
    product::Running,
    raw::Reply,
    wait::{self, MS, SOON},
};
use synflip_wire::Phase;

/// The old generation's queue is full at the flip: a handshake cannot end, and no other begins.
#[test]
fn a_full_old_queue_is_served_and_who_waits_before_it_goes_to_the_new_one() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let spec = fixture
            .spec(1, 1)
            .args(&["--stop-accepting", "--backlog=2"]);
        let old = fixture.start_working(&spec)?;
        let mut held = fixture.net.half_open(1)?.remove(0);
        // A queue takes one more than its length.
        let queued = fixture.net.clients(3)?;
        held.ack()?;
        held.send(REQUEST)?;
        fixture.wait_pending("gen1", 3, 1)?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        let begin = || fixture.agent.begin_flip("gen2");
        let (mut flip, waiting) = waiting_for(&fixture.net, begin)?;
        let by = answers(waiting)?;
        ensure!(by == [2], "who waited came to the old generation");
        fixture.wait_pending("gen1", 3, 1)?;
        flip.still_runs()?;
        old.signal(Signal::USR1)?;
        let by = answers(queued)?;
        ensure!(by == [1; 3], "queued connections went to {by:?}");
        let again = held.recv_syn_ack(SOON)?;
        ensure!(again == Reply::SynAck, "no SYN-ACK again but {again:?}");
        ensure!(complete(&mut held)? == 1, "a handshake went elsewhere");
        flip.drained()?;
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == 4, "not all were served: {exit:?}");
        fixture.check_steered(5)
    })
}

/// The new generation is stuck: going back helps those who wait before its queue, and its end
/// those in it.
#[test]
fn a_full_new_queue_is_left_by_a_rollback() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let _old = fixture.start_working(&fixture.spec(1, 1))?;
        let spec = fixture
            .spec(2, 1)
            .args(&["--stop-accepting", "--backlog=1"]);
        let stuck = fixture.start(&spec)?;
        fixture.agent.flip_with("gen2", &["--keep"])?;
        let queued = fixture.net.clients(2)?;
        fixture.wait_pending("gen2", 2, 0)?;
        let begin = || fixture.agent.begin_flip("gen1");
        let (mut back, waiting) = waiting_for(&fixture.net, begin)?;
        let by = answers(waiting)?;
        ensure!(by == [1], "who waited came to the stuck generation");
        fixture.wait_phase("gen2", Phase::Draining)?;
        back.still_runs()?;
        stuck.signal(Signal::KILL)?;
        let by = answers(queued)?;
        ensure!(by == [1; 2], "answered by who is dead: {by:?}");
        back.drained()?;
        fixture.wait_gone("gen2")?;
        fixture.check_steered(3)
    })
}

/// Has a client connect whose SYN is dropped, and sent again after a second: meanwhile, flips.
fn waiting_for(
    net: &Network,
    flip: impl FnOnce() -> Result<Running>,
) -> Result<(Running, Vec<TcpStream>)> {
    thread::scope(|scope| {
        let waiting = scope.spawn(|| net.clients(1));
        wait::pause(200 * MS);
        let flip = flip()?;
        let clients = waiting.join().map_err(|_panic| anyhow!("panicked"))??;
        Ok((flip, clients))
    })
}
