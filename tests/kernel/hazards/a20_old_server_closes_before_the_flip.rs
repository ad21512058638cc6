//! A20: an adopted server that is stopped before the flip, and finishes what it has accepted,
//! lives and accepts nothing.

use std::net::TcpStream;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    wait::{self, MS, SOON},
};

use crate::{
    black_box::{Operate as _, PATIENCE, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a20_the_old_server_is_stopped_gracefully_before_the_flip() -> Result<()> {
    hazard("A20", || {
        let fixture = Fixture::new()?;
        let old = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        let _new = fixture.adopted(&fixture.spec(2, 2))?;
        // A client that takes its time keeps the old process alive.
        let address = fixture.net.address;
        let connect = || TcpStream::connect_timeout(&address, SOON);
        let _slow = fixture.net.client.run(connect).context("connect")?;
        let before = ask(&fixture.net, 4, PATIENCE)?;
        anyhow::ensure!(before.by == [1; 4], "{before:?}");
        old.signal(Signal::TERM)?;
        wait::pause(1000 * MS);
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.lost() == 0,
            "gen1 has closed its listeners and gen2 is ready: of 20 clients {} hang and {} are \
             reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}
