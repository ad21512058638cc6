//! A17: a registered parent dies, and its forked children, which accept from the same listeners
//! by calls that wait, find them in non-blocking mode.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use rustix::fs::{OFlags, fcntl_getfl};
use synflip_bed::{
    Fixture,
    wait::{self, MS},
};

use crate::{
    black_box::Operate as _,
    peer::{Peer, listen},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a17_a_parent_dies_and_its_children_accept() -> Result<()> {
    hazard("A17", || {
        let fixture = Fixture::new()?;
        // The child is this process; what it has of its parent is a connection to the agent.
        let mut listeners = listen(&fixture.net, fixture.net.address, 1, 128)?;
        listeners[0].set_nonblocking(false)?;
        let mut parent = Peer::connect(&fixture.agent)?;
        parent.join("web", "gen1", &listeners)?;
        fixture.agent.wait_works("gen1")?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        // Somebody waits in its queue when the parent dies.
        let waiting = fixture.net.clients(2)?;
        drop(parent);
        fixture.agent.wait_works("gen2")?;
        wait::pause(500 * MS);
        let listener = listeners.remove(0);
        let blocks = || !fcntl_getfl(listener.as_fd()).is_ok_and(|f| f.contains(OFlags::NONBLOCK));
        let still = blocks();
        ensure!(waiting.len() == 2);
        safe_if!(
            still,
            "a child's accept() on the listener that it shares with its dead parent would no \
             longer wait: O_NONBLOCK has appeared"
        );
        Ok(Verdict::Safe)
    })
}
