//! How the agent starts, or says why it does not, and how it stops.

use std::{
    fs,
    os::unix::{fs::FileTypeExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use synflip_bed::{
    Netns,
    product::{Cli, program},
    wait,
};

use super::run;
use crate::bed::{Bed, SOON, find};

/// A user without any privilege.
const NOBODY: u32 = 65534;

#[test]
fn a_second_agent_is_told_what_the_first_one_holds() -> Result<()> {
    let bed = Bed::new()?;
    let dir = tempfile::tempdir()?;
    let socket = bed.agent.socket();
    let pins = Pins::new("second")?;
    let cases = [
        (
            bed.agent.bpffs(),
            dir.path().join("agent.sock"),
            bed.agent.bpffs().to_owned(),
        ),
        (
            pins.0.as_path(),
            socket.clone(),
            socket.with_extension("sock.lock"),
        ),
    ];
    for (bpffs, socket, held) in cases {
        let second = refused(&bed.netns, agent(bpffs, &socket)?)?;
        let held = held.display().to_string();
        ensure!(
            second.stderr.contains("another agent is running"),
            "{second:?}"
        );
        ensure!(second.stderr.contains(&held), "{held} is not in {second:?}");
    }
    // The first one has not noticed anything.
    let _first = bed.first(&[])?;
    ensure!(bed.answers(5)? == [1; 5], "other answers");
    Ok(())
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_directory_made() -> Result<()> {
    let netns = Netns::new()?;
    let (pins, dir) = (Pins::new("stale")?, tempfile::tempdir()?);
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
    let (netns, pins) = (Netns::new()?, Pins::new("unwritable")?);
    for path in [
        "/proc/agent.sock",
        "/dev/null/agent.sock",
        "/proc/none/agent.sock",
    ] {
        let cli = refused(&netns, agent(&pins.0, Path::new(path))?)?;
        ensure!(
            cli.stderr.contains(path) && cli.stderr.contains("failed"),
            "{cli:?}"
        );
    }
    let long = format!("/tmp/{}/agent.sock", "x".repeat(120));
    let cli = refused(&netns, agent(&pins.0, Path::new(&long))?)?;
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
    let (netns, pins) = (Netns::new()?, Pins::new("nobody")?);
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("agent.sock");
    let cli = as_nobody(agent(&pins.0, &socket)?)?;
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
        run(&mut agent(&pins.0, &socket)?)
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
    let mut bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let _second = bed.generation(2, &[])?;
    let runs = bed.agent.service()?.endpoints[0].runs;
    bed.agent.kill(Signal::TERM)?;
    ensure!(
        bed.agent.log().contains("the kernel goes on steering"),
        "{}",
        bed.agent.log()
    );
    ensure!(!bed.agent.socket().exists(), "the socket is still there");
    ensure!(bed.agent.cli(&["status"])?.code == 3, "an agent answers");
    let numbers = bed.answers(500)?;
    ensure!(numbers == [1; 500], "{numbers:?}");

    let netns = std::sync::Arc::clone(&bed.netns);
    bed.agent.restart(&netns)?;
    let service = bed.until("both are back", |service| {
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
    bed.agent.check_counters()
}

/// An agent that has to say no.
fn refused(netns: &Netns, mut command: Command) -> Result<Cli> {
    let cli = netns.run(|| run(&mut command))?;
    ensure!(cli.code == 1 && cli.stdout.is_empty(), "{cli:?}");
    ensure!(!cli.stderr.contains("panicked"), "{cli:?}");
    Ok(cli)
}

pub(super) fn as_nobody(mut command: Command) -> Result<Cli> {
    run(command.uid(NOBODY).gid(NOBODY))
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

/// A directory for pins, removed when dropped.
struct Pins(std::path::PathBuf);

impl Pins {
    fn new(what: &str) -> Result<Self> {
        let bpffs = Path::new(synflip_bpf::DEFAULT_BPFFS);
        synflip_bpf::prepare_bpffs(bpffs)?;
        let dir = bpffs.join(format!("synflip-contract-{}-{what}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// An agent that has been started by hand, killed when dropped.
struct Started(Child);

impl Started {
    fn new(netns: &Netns, pins: &Pins, socket: &Path) -> Result<Self> {
        let mut command = agent(&pins.0, socket)?;
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
