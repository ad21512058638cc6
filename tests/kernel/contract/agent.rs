//! Promise: the agent starts, or says why it does not, and its end changes nothing for clients.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use synflip_bed::{
    Fixture, Netns,
    fixture::find,
    product::{Cli, Pins, program},
    wait::{self, SOON},
};

#[test]
fn a_second_agent_is_told_what_the_first_one_holds() -> Result<()> {
    let fixture = Fixture::new()?;
    let dir = tempfile::tempdir()?;
    let socket = fixture.agent.socket();
    let pins = Pins::new()?;
    let cases = [
        (
            fixture.agent.bpffs(),
            dir.path().join("agent.sock"),
            fixture.agent.bpffs().to_owned(),
        ),
        (
            pins.path(),
            socket.clone(),
            socket.with_extension("sock.lock"),
        ),
    ];
    for (bpffs, socket, held) in cases {
        let second = refused(&fixture.net.server, agent(bpffs, &socket)?)?;
        let held = held.display().to_string();
        ensure!(
            second.stderr.contains("another agent is running"),
            "{second:?}"
        );
        ensure!(second.stderr.contains(&held), "{held} is not in {second:?}");
    }
    // The first one has not noticed anything.
    let _first = fixture.first(&[])?;
    ensure!(fixture.net.answers(5)? == [1; 5], "other answers");
    Ok(())
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_directory_made() -> Result<()> {
    let netns = Netns::new()?;
    let (pins, dir) = (Pins::new()?, tempfile::tempdir()?);
    let socket = dir.path().join("not/yet/there/agent.sock");
    let mut first = Started::new(&netns, &pins, &socket)?;
    first.end(Signal::KILL)?;
    let stale = fs::metadata(&socket).context("a killed agent leaves its socket")?;
    ensure!(stale.file_type().is_socket(), "{stale:?}");
    let mut second = Started::new(&netns, &pins, &socket)?;
    let code = second.end(Signal::TERM)?;
    ensure!(code == Some(0), "SIGTERM: {code:?}");
    ensure!(!socket.exists(), "the socket is still there");
    let mut third = Started::new(&netns, &pins, &socket)?;
    let code = third.end(Signal::INT)?;
    ensure!(code == Some(0) && !socket.exists(), "SIGINT: {code:?}");
    Ok(())
}

#[test]
fn a_socket_that_cannot_be_made_is_named() -> Result<()> {
    let (netns, pins) = (Netns::new()?, Pins::new()?);
    for path in [
        "/proc/agent.sock",
        "/dev/null/agent.sock",
        "/proc/none/agent.sock",
    ] {
        let cli = refused(&netns, agent(pins.path(), Path::new(path))?)?;
        ensure!(
            cli.stderr.contains(path) && cli.stderr.contains("failed"),
            "{cli:?}"
        );
    }
    let long = format!("/tmp/{}/agent.sock", "x".repeat(120));
    let cli = refused(&netns, agent(pins.path(), Path::new(&long))?)?;
    drop(fs::remove_dir_all(
        Path::new(&long).parent().context("a directory")?,
    ));
    ensure!(
        cli.stderr.contains("binding") && cli.stderr.contains(&long),
        "{cli:?}"
    );
    Ok(())
}

#[test]
fn an_agent_without_privileges_says_which_and_how_to_get_them() -> Result<()> {
    let (netns, pins) = (Netns::new()?, Pins::new()?);
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("agent.sock");
    let cli = Cli::of_nobody(&mut agent(pins.path(), &socket)?)?;
    ensure!(cli.code == 1 && cli.stdout.is_empty(), "{cli:?}");
    let cure = "AmbientCapabilities=CAP_BPF";
    ensure!(
        cli.stderr
            .contains("the agent needs CAP_BPF: run it as root"),
        "{cli:?}"
    );
    ensure!(cli.stderr.contains(cure), "{cli:?}");
    // Root, but for one capability that its thread may not pass on.
    let cli = netns.run(|| -> Result<Cli> {
        remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN)?;
        Cli::of(&mut agent(pins.path(), &socket)?)
    })?;
    ensure!(
        cli.code == 1 && cli.stderr.contains("the agent needs CAP_NET_ADMIN"),
        "{cli:?}"
    );
    ensure!(!socket.exists(), "a socket without an agent");
    Ok(())
}

#[test]
fn without_an_agent_the_kernel_steers_on() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    let runs = fixture.agent.service()?.endpoints[0].runs;
    fixture.agent.kill(Signal::TERM)?;
    ensure!(
        fixture.agent.log().contains("the kernel goes on steering"),
        "{}",
        fixture.agent.log()
    );
    ensure!(
        !fixture.agent.socket().exists(),
        "the socket is still there"
    );
    ensure!(
        fixture.agent.cli(&["status"])?.code == 3,
        "an agent answers"
    );
    let numbers = fixture.net.answers(500)?;
    ensure!(numbers == [1; 500], "{numbers:?}");

    fixture.restart_agent()?;
    let service = fixture.until("both are back", |service| {
        ["gen1", "gen2"]
            .iter()
            .all(|name| find(service, name).is_some_and(|g| g.pids.len() == 1))
    })?;
    // It has counted on.
    let endpoint = &service.endpoints[0];
    ensure!(endpoint.runs >= runs + 500, "{endpoint:?}");
    let second = find(&service, "gen2").context("gen2")?;
    ensure!(
        second
            .listeners
            .iter()
            .all(|listener| listener.selected == 0),
        "{second:?}"
    );
    fixture.agent.check_counters()
}

/// An agent that has to say no.
fn refused(netns: &Netns, mut command: Command) -> Result<Cli> {
    let cli = netns.run(|| Cli::of(&mut command))?;
    ensure!(cli.code == 1 && cli.stdout.is_empty(), "{cli:?}");
    ensure!(!cli.stderr.contains("panicked"), "{cli:?}");
    Ok(cli)
}

fn agent(bpffs: &Path, socket: &Path) -> Result<Command> {
    let mut command = Command::new(program("synflip")?);
    command
        .arg("agent")
        .arg("--bpffs")
        .arg(bpffs)
        .arg("--socket")
        .arg(socket);
    command.stdin(Stdio::null());
    Ok(command)
}

/// An agent that has been started by hand, killed when dropped.
struct Started(Child);

impl Started {
    fn new(netns: &Netns, pins: &Pins, socket: &Path) -> Result<Self> {
        let mut command = agent(pins.path(), socket)?;
        let started = Self(netns.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?);
        wait::until("the agent answers", SOON, || {
            let client = synflip_wire::Client::connect(socket).ok();
            let status = synflip_wire::Request::Status { service: None };
            client.is_some_and(|mut client| client.ask(&status, SOON).is_ok())
        })?;
        Ok(started)
    }

    /// Sends a signal and returns the exit code, if it was not the signal that ended it.
    fn end(&mut self, signal: Signal) -> Result<Option<i32>> {
        kill_process(Pid::from_child(&self.0), signal)?;
        let mut status = None;
        wait::until("the agent ends", SOON, || {
            status = self.0.try_wait().ok().flatten();
            status.is_some()
        })?;
        Ok(status.and_then(|status| status.code()))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
