//! Promise: what is queued on a server that dies is served by another generation, whether or not
//! the agent dies with it.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, Setup, capability, network::answers};

use crate::helpers::{REGIMES, at_once::at_once};

#[test]
fn a_successor_serves_what_was_queued_on_a_killed_generation() -> Result<()> {
    at_once(REGIMES, |regime| {
        let fixture = Setup::new().agent_args(regime).start()?;
        let first = fixture.first(&["--stop-accepting"])?;
        let _second = fixture.generation(2, &[])?;
        let waiting = fixture.net.clients(50)?;
        first.signal(Signal::KILL)?;
        ensure!(answers(waiting)? == [2; 50], "not all by the successor");
        let status = fixture.wait_works("gen2")?;
        ensure!(status.epoch.0 == 2, "{status:#?}");
        fixture.agent.check_counters()
    })
    .map(drop)
}

/// Without systemd nobody holds what both leave: the kernel moves it, if it can.
#[test]
fn what_server_and_agent_leave_together_moves_to_a_generation_that_lives() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    at_once([true, false], |agent_first| {
        let mut fixture = Fixture::new()?;
        let first = fixture.first(&["--stop-accepting"])?;
        let second = fixture.generation(2, &[])?;
        let waiting = fixture.net.clients(20)?;
        let mut kill_agent = || fixture.agent.kill(Signal::KILL);
        if agent_first {
            kill_agent()?;
            first.signal(Signal::KILL)?;
        } else {
            // It may have noticed, and begun to act.
            first.signal(Signal::KILL)?;
            kill_agent()?;
        }
        ensure!(
            answers(waiting)? == [2; 20],
            "not all by the one that lives"
        );
        fixture.restart_agent()?;
        fixture.wait_works("gen2")?;
        ensure!(fixture.net.answers(10)? == [2; 10], "others answer");
        drop((first, second));
        Ok(())
    })
    .map(drop)
}
