//! Promise: without a successor, the agent holds what is queued on a dead server for the hold time,
//! and nothing is left behind after that.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture, Setup,
    network::{answered, answers},
};
use synflip_bpf::service_dir;

#[test]
fn connections_wait_for_a_generation_that_comes_within_the_hold_time() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let mut waiting = fixture.net.clients(30)?;
    first.signal(Signal::KILL)?;
    fixture.wait_dead("gen1")?;
    // Nobody is alive, and nobody is refused.
    waiting.extend(fixture.net.clients(10)?);
    let _second = fixture.generation(2, &[])?;
    ensure!(answers(waiting)? == [2; 40], "not all by the successor");
    fixture.agent.check_counters()
}

#[test]
fn after_the_hold_time_nothing_is_left_behind() -> Result<()> {
    let fixture = Setup::new().agent_args(&["--hold", "1"]).start()?;
    let before = fixture.agent.settled_fds()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let waiting = fixture.net.clients(5)?;
    first.signal(Signal::KILL)?;
    for client in waiting {
        ensure!(answered(client).is_err(), "answered by nobody");
    }
    fixture.wait_over()?;
    let pins = service_dir(fixture.agent.bpffs(), "web");
    ensure!(!pins.exists(), "its pins are there still");
    let log = fixture.agent.log();
    ensure!(log.contains("lost=5"), "not how many were lost: {log}");
    let after = fixture.agent.settled_fds()?;
    ensure!(after == before, "{after} descriptors, not {before}");
    // And a fresh start trips over nothing.
    let _again = fixture.first(&[])?;
    ensure!(fixture.net.answers(10)? == [1; 10]);
    Ok(())
}
