//! Promise: what is queued outlives agent and server, because systemd keeps the listeners.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use synflip_bed::{
    fixture::{find, works},
    network::answers,
    wait::{self, SOON},
};

use crate::{machine::Machine, unit::Unit};

#[test]
fn what_is_queued_outlives_the_units_of_agent_and_server() -> Result<()> {
    let machine = Machine::new()?;
    let waiting = queued(&machine)?;
    let status = machine.until("its process is known to have ended", |service| {
        find(service, "v1").is_some_and(|generation| generation.pids.is_empty())
    })?;
    ensure!(works(&status, "v1"), "{status:#?}");
    ensure!(machine.agent.stored()? == 2, "what is kept for the agent");
    // They wait for whoever comes, and so do new ones.
    let later = machine.net.clients(5)?;
    let _second = machine.server(2, "")?;
    ensure!(answers(waiting)? == [2; 20], "not all by the successor");
    ensure!(answers(later)? == [2; 5], "not all by the successor");
    // Closed, they leave the store; those of the successor take their place.
    machine.until_stored(2)
}

/// That the store is what saves them: without it, the same loses them all.
#[test]
fn without_the_store_they_die_with_the_units() -> Result<()> {
    let machine = Machine::with_agent("FileDescriptorStoreMax=0")?;
    let waiting = queued(&machine)?;
    let _second = machine.server(2, "")?;
    for client in waiting {
        ensure!(answers(vec![client]).is_err(), "answered by nobody");
    }
    ensure!(machine.net.answers(5)? == [2; 5], "the next ones");
    Ok(())
}

/// Clients in the queues of a server that is dead, and was killed at the same time as its agent;
/// the next agent answers.
fn queued(machine: &Machine) -> Result<Vec<TcpStream>> {
    let server: Unit = machine.first("--stop-accepting")?;
    let waiting = machine.net.clients(20)?;
    let agent = machine.agent.main_pid()?;
    // Past systemd, which would have time to start the agent between the two.
    for pid in [agent, server.main_pid()?] {
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a unit without a process")?;
        kill_process(pid, Signal::KILL).context("kill a unit's process")?;
    }
    wait::until("systemd starts the agent again", SOON, || {
        let is_up = |state: String| state == "active";
        let is_another = |pid| pid != 0 && pid != agent;
        machine.agent.main_pid().is_ok_and(is_another)
            && machine.agent.property("ActiveState").is_ok_and(is_up)
    })?;
    let how = server.property("Result")?;
    ensure!(how == "signal", "the server ended with {how}");
    Ok(waiting)
}
