//! A12: a server that stops in good order, with no successor ready, is worse than a killed one.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    wait::{self, SECOND},
};

use crate::{
    black_box::{Answers, ask, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a12_a_server_that_stops_is_worse_than_a_killed_one() -> Result<()> {
    hazard("A12", || {
        let killed = gap(Signal::KILL)?;
        ensure!(killed.lost() == 0, "killed: {killed:?}");
        let stopped = gap(Signal::TERM)?;
        safe_if!(
            stopped.lost() == 0,
            "20 clients come between the end of a server and its successor's start: {} are refused \
             and {} hang if it was told to stop, none if it was killed",
            stopped.reset,
            stopped.hung
        );
        Ok(Verdict::Safe)
    })
}

/// What clients get that come after a server's end, and a second before its successor.
fn gap(signal: Signal) -> Result<Answers> {
    let fixture = Fixture::new()?;
    let mut old = first(&fixture, &[])?;
    old.signal(signal)?;
    // It may wait for its successor.
    drop(wait::until("it ends", SECOND, || old.has_ended()));
    thread::scope(|scope| {
        let clients = scope.spawn(|| ask(&fixture.net, 20, 10 * SECOND));
        wait::pause(SECOND);
        let _new = fixture.start(&fixture.spec(2, 2))?;
        let answers = clients.join();
        answers.map_err(|_panic| anyhow!("the clients have panicked"))?
    })
}
