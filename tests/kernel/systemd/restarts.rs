//! Promise: the agent's unit can be restarted at any time; nothing is lost, and systemd keeps the
//! listeners for the next one.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    fixture::works,
    load::Mode,
    network::answers,
    product::Generation,
    wait::{self, SOON},
};
use synflip_wire::ServiceStatus;

use crate::machine::Machine;

#[test]
fn the_agents_unit_is_restarted_under_load_and_nothing_is_lost() -> Result<()> {
    let machine = Machine::new()?;
    let _first = machine.first("")?;
    machine.until_stored(LISTENERS)?;
    let (agent, restarts) = (&machine.agent, machine.agent.restarts()?);
    let mut pids = vec![agent.main_pid()?];
    let load = machine.net.load_in(LOAD);
    for _ in 0..RESTARTS {
        load.more(20)?;
        agent.restart()?;
        pids.push(agent.main_pid()?);
        is_back(&machine)?;
    }
    load.more(20)?;
    agent.kill("KILL")?;
    wait::until("systemd starts it again", SOON, || {
        agent.restarts().is_ok_and(|number| number == restarts + 1)
            && agent
                .main_pid()
                .is_ok_and(|pid| pid != 0 && !pids.contains(&pid))
    })?;
    pids.push(agent.main_pid()?);
    is_back(&machine)?;
    load.more(20)?;

    // The last one is as good as the first.
    let _second = machine.server(2, "")?;
    machine.flip("v2")?;
    load.more(20)?;
    let report = load.finish_unharmed()?;
    ensure!(report.by_generation.contains_key(&2), "{report:?}");

    pids.dedup();
    ensure!(pids.len() == RESTARTS + 2, "{pids:?}");
    for (number, pid) in pids.iter().enumerate() {
        let journal = agent.journal_of(*pid)?;
        let says = |what| journal.contains(what);
        ensure!(says(" ready "), "agent {pid} is not heard of:\n{journal}");
        let taken_up = says("taken up where it was left");
        ensure!(taken_up == (number > 0), "agent {pid}:\n{journal}");
        // One was killed, and the last still runs.
        let stopped = says("the kernel goes on steering");
        ensure!(stopped == (number < RESTARTS), "agent {pid}:\n{journal}");
    }
    Ok(())
}

/// An upgrade that stops the unit, and starts it later: systemd lets go of the listeners then, but
/// the server has them, and gives them to the next agent.
#[test]
fn the_agents_unit_is_stopped_for_a_while_and_nothing_is_lost() -> Result<()> {
    let machine = Machine::new()?;
    let _first = machine.first("")?;
    machine.until_stored(LISTENERS)?;
    let load = machine.net.load_in(LOAD);
    load.more(20)?;
    machine.agent.stop()?;
    ensure!(machine.agent.stored()? == 0, "systemd keeps what it had");
    load.more(20)?;
    machine.agent.start()?;
    machine.until_stored(LISTENERS)?;
    is_back(&machine)?;
    load.more(20)?;
    load.finish_unharmed().map(drop)
}

#[test]
fn relayed_connections_outlive_restarts_and_a_stop_of_the_agents_unit() -> Result<()> {
    let relayed = Relayed::new("")?;
    relayed.machine.agent.restart()?;
    // The next agent knows of them.
    relayed.all_are()?;
    relayed.machine.agent.stop()?;
    relayed.server.signal(Signal::CONT)?;
    let answers = answers(relayed.clients)?;
    ensure!(answers == [2; CLIENTS], "others answer");
    Ok(())
}

/// That the unit's settings are what saves them.
#[test]
fn with_systemds_defaults_relayed_connections_die_with_a_restart() -> Result<()> {
    let relayed = Relayed::new("KillMode=control-group")?;
    relayed.machine.agent.restart()?;
    relayed.server.signal(Signal::CONT)?;
    for client in relayed.clients {
        ensure!(answers(vec![client]).is_err(), "answered by nobody");
    }
    Ok(())
}

/// Clients that are relayed to a server which has not answered yet, and is stopped.
struct Relayed {
    machine: Machine,
    clients: Vec<TcpStream>,
    server: Generation,
}

impl Relayed {
    fn new(lines: &str) -> Result<Self> {
        // Where the kernel moves what is queued, little is left to be relayed.
        let exec = "ExecStart=\nExecStart=/usr/bin/synflip agent --no-migration";
        let machine = Machine::with_agent(&format!("{exec}\n{lines}"))?;
        let adopted = |number: u32, args: &[&str]| -> Result<Generation> {
            let server = machine.net.plain(&machine.net.spec(number, 1).args(args))?;
            machine.adopt(server.pid(), &server.name)?;
            Ok(server)
        };
        let old = adopted(1, &["--stop-accepting"])?;
        let clients = machine.net.clients(CLIENTS)?;
        let server = adopted(2, &[])?;
        server.signal(Signal::STOP)?;
        old.kill()?;
        let relayed = Self {
            machine,
            clients,
            server,
        };
        relayed.all_are()?;
        Ok(relayed)
    }

    fn all_are(&self) -> Result<()> {
        // The process may be that of another test, and have counted before.
        let is_so = |service: &ServiceStatus| service.relayed.open == CLIENTS as u64;
        self.machine.until("all are relayed", is_so).map(drop)
    }
}

/// Waits until a new agent has all that the one before had.
fn is_back(machine: &Machine) -> Result<()> {
    machine.until("the service is back, and its server", |service| {
        works(service, "v1") && service.generations.iter().all(|one| one.pids.len() == 1)
    })?;
    let stored = machine.agent.stored()?;
    ensure!(stored == LISTENERS, "{stored} descriptors are stored");
    Ok(())
}

/// Leaves an emulated machine time to start agents.
const LOAD: Mode = Mode::Open {
    rate: 50.0,
    max_in_flight: 500,
};
const RESTARTS: usize = 3;
const CLIENTS: usize = 20;
/// Of each server.
const LISTENERS: u32 = 2;
