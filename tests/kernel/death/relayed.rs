//! Promise: what is left to servers that cannot be handed any connection is carried to a living one
//! by a process that needs neither the agent nor a privilege.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use synflip_bed::{
    Fixture, Setup,
    network::{REQUEST, answers},
    product::Generation,
    wait::{self, SOON},
};
use synflip_wire::RelayStatus;

#[test]
fn relayed_connections_outlive_a_killed_agent() -> Result<()> {
    let mut idle = Vec::new();
    let mut relayed = Relayed::start(&Setup::new(), |fixture, new| {
        // No answer is on its way before the agent dies.
        new.signal(Signal::STOP)?;
        let address = fixture.net.address;
        for _ in 0..IDLE {
            let connect = || TcpStream::connect_timeout(&address, SOON);
            idle.push(fixture.net.client.run(connect)?);
        }
        Ok(IDLE)
    })?;
    let process = relayed.process()?;
    relayed.fixture.agent.kill(Signal::KILL)?;
    relayed.working.signal(Signal::CONT)?;
    let answered = answers(relayed.clients.split_off(0))?;
    ensure!(answered == [2; CLIENTS], "others answer");

    // The next agent finds the process, which goes on with what it has.
    relayed.fixture.restart_agent()?;
    relayed.is_at(IDLE, CLIENTS + IDLE)?;
    for client in &mut idle {
        client.set_read_timeout(Some(SOON))?;
        client.write_all(REQUEST)?;
    }
    ensure!(answers(idle)? == [2; IDLE], "others answer");
    relayed.is_at(0, CLIENTS + IDLE)?;
    ensure!(process.lives(), "another process");

    // Nothing is left to carry, and nobody to ask for it.
    relayed.fixture.agent.kill(Signal::KILL)?;
    wait::until("the process ends by itself", SOON, || !process.lives())
}

#[test]
fn the_relay_process_has_nothing_that_it_does_not_need() -> Result<()> {
    let relayed = Relayed::new()?;
    let process = relayed.process()?;
    let status = process.read("status")?;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let expected = [
        ("Uid:", "65534 65534 65534 65534"),
        ("Gid:", "65534 65534 65534 65534"),
        ("Groups:", ""),
        ("CapInh:", NONE),
        ("CapPrm:", NONE),
        ("CapEff:", NONE),
        ("CapBnd:", NONE),
        ("CapAmb:", NONE),
        ("NoNewPrivs:", "1"),
        ("Umask:", "0077"),
        ("Threads:", "1"),
    ];
    for (key, value) in expected {
        ensure!(of(key).as_deref() == Some(value), "{key} in {status}");
    }
    ensure!(process.read("environ")?.is_empty(), "it has an environment");
    ensure!(process.link("cwd")? == Path::new("/"), "its directory");
    let stat = process.read("stat")?;
    let session = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(3));
    ensure!(
        session == Some(&process.0.to_string()),
        "its session: {stat}"
    );

    let (mut sockets, mut others) = (0, Vec::new());
    for entry in fs::read_dir(process.path("fd"))? {
        let target = fs::read_link(entry?.path())?.display().to_string();
        if target.starts_with("socket:") {
            sockets += 1;
        } else if target != "/dev/null" && !target.starts_with("anon_inode:[event") {
            others.push(target);
        }
    }
    ensure!(others.is_empty(), "{others:?}");
    ensure!(sockets <= 2 * CLIENTS + OWN, "{sockets} sockets");
    // Nobody but root can ask it for anything.
    let socket = fs::metadata(relayed.socket())?;
    ensure!(
        (socket.uid(), socket.mode() & 0o777) == (0, 0o600),
        "{socket:?}"
    );
    Ok(())
}

#[test]
fn an_agent_with_two_capabilities_has_a_relay_process_with_none() -> Result<()> {
    let setup = Setup::new().agent_least_privileged();
    let relayed = Relayed::start(&setup, |_, _| Ok(0))?;
    let status = relayed.process()?.read("status")?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        ensure!(status.contains(&format!("{set}:\t{NONE}\n")), "{status}");
    }
    ensure!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    Ok(())
}

#[test]
fn a_relay_process_that_dies_is_replaced_and_its_loss_is_told() -> Result<()> {
    let mut relayed = Relayed::start(&Setup::new(), |_, new| {
        new.signal(Signal::STOP)?;
        Ok(0)
    })?;
    let first = relayed.process()?;
    kill_process(first.pid()?, Signal::KILL)?;
    let told = || {
        relayed
            .fixture
            .agent
            .log()
            .contains(&format!("lost={CLIENTS}"))
    };
    wait::until("the loss is told", SOON, told).with_context(|| relayed.fixture.agent.log())?;
    let log = relayed.fixture.agent.log();
    let times = log.matches("the relay process has ended").count();
    ensure!(times == 1, "told {times} times:\n{log}");
    relayed.is_at(0, CLIENTS)?;
    for client in relayed.clients.split_off(0) {
        ensure!(answers(vec![client]).is_err(), "answered by nobody");
    }

    // What it had connected to the server is not relayed once more.
    relayed.working.signal(Signal::CONT)?;
    relayed.fixture.wait_pending("gen2", 0, 0)?;
    relayed.dies_again(3)?;
    relayed.is_at(CLIENTS, 2 * CLIENTS)?;
    let second = relayed.process()?;
    ensure!(second.lives() && second.0 != first.0, "the same process");
    ensure!(answers(relayed.clients)? == [3; CLIENTS], "others answer");
    Ok(())
}

#[test]
fn connections_wait_while_no_relay_process_can_be_started() -> Result<()> {
    // Nothing can be bound where a directory is.
    let blocked = |fixture: &Fixture, _: &Generation| Ok(fs::create_dir(socket(fixture))?);
    let (fixture, clients, _new) = Relayed::left(&Setup::new(), blocked)?;
    let complaint = "no relay process can be started: binding";
    let complains = || fixture.agent.log().contains(complaint);
    wait::until("the agent says why", SOON, complains).with_context(|| fixture.agent.log())?;
    wait::pause(500 * wait::MS);
    let log = fixture.agent.log();
    ensure!(log.matches(complaint).count() == 1, "said again:\n{log}");
    fixture.wait_pending("gen1", CLIENTS as u64, 0)?;
    fs::remove_dir(socket(&fixture))?;
    ensure!(answers(clients)? == [2; CLIENTS], "others answer");
    Ok(())
}

#[test]
fn what_the_relay_process_has_no_place_for_waits_in_its_queue() -> Result<()> {
    // The process inherits this, and has as many places as it allows.
    let descriptors = Some(64 + 4 * PLACES);
    let limit = Rlimit {
        current: descriptors,
        maximum: descriptors,
    };
    let (fixture, clients, new) = Relayed::left(&Setup::new(), |fixture, new| {
        let pid = Pid::from_raw(fixture.agent.pid().cast_signed()).context("a process")?;
        prlimit(Some(pid), Resource::Nofile, limit).context("prlimit")?;
        new.signal(Signal::STOP)
    })?;
    fixture.until("all places are taken", |s| s.relayed.open == PLACES)?;
    fixture.wait_pending("gen1", CLIENTS as u64 - PLACES, 0)?;
    // Each that ends makes room for another.
    new.signal(Signal::CONT)?;
    ensure!(answers(clients)? == [2; CLIENTS], "others answer");
    Ok(())
}

/// A fixture in which a server that was adopted has died, and another one is there.
struct Relayed {
    fixture: Fixture,
    /// Those that had connected to the dead one, and are relayed.
    clients: Vec<TcpStream>,
    working: Generation,
}

impl Relayed {
    fn new() -> Result<Self> {
        Self::start(&Setup::new(), |_, _| Ok(0))
    }

    /// The same after something that is done while both servers live, and connects so many more.
    fn start(
        setup: &Setup,
        before: impl FnOnce(&Fixture, &Generation) -> Result<usize>,
    ) -> Result<Self> {
        let mut more = 0;
        let (fixture, clients, working) = Self::left(setup, |fixture, new| {
            more = before(fixture, new)?;
            Ok(())
        })?;
        let relayed = Self {
            fixture,
            clients,
            working,
        };
        relayed.is_at(CLIENTS + more, CLIENTS + more)?;
        Ok(relayed)
    }

    /// The same, without waiting until they are relayed, and with something that is done while
    /// both servers live.
    fn left(
        setup: &Setup,
        before: impl FnOnce(&Fixture, &Generation) -> Result<()>,
    ) -> Result<(Fixture, Vec<TcpStream>, Generation)> {
        let fixture = setup.clone().agent_args(&["--no-migration"]).start()?;
        let old = fixture.adopted(&fixture.spec(1, 1).arg("--stop-accepting"))?;
        fixture.wait_works("gen1")?;
        let clients = fixture.net.clients(CLIENTS)?;
        let new = fixture.adopted(&fixture.spec(2, 1))?;
        before(&fixture, &new)?;
        old.kill()?;
        fixture.wait_works("gen2")?;
        Ok((fixture, clients, new))
    }

    /// The working generation dies as well, and what was queued on it is relayed to the next.
    fn dies_again(&mut self, number: u32) -> Result<()> {
        self.working.signal(Signal::STOP)?;
        self.clients = self.fixture.net.clients(CLIENTS)?;
        let new = self.fixture.adopted(&self.fixture.spec(number, 1))?;
        std::mem::replace(&mut self.working, new).kill().map(drop)
    }

    fn is_at(&self, open: usize, total: usize) -> Result<()> {
        let wanted = RelayStatus {
            open: open as u64,
            total: total as u64,
        };
        let is_so = |service: &synflip_wire::ServiceStatus| service.relayed == wanted;
        self.fixture.until(&format!("{wanted:?}"), is_so).map(drop)
    }

    /// The process that was started last.
    fn process(&self) -> Result<Process> {
        let log = self.fixture.agent.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("started a relay process"));
        let pid = line.and_then(|line| line.split_once("pid="));
        let pid = pid
            .with_context(|| format!("no process was started:\n{log}"))?
            .1;
        let pid = pid.split_whitespace().next().context("no number")?;
        Ok(Process(pid.parse()?))
    }

    fn socket(&self) -> PathBuf {
        socket(&self.fixture)
    }
}

/// A relay process.
struct Process(u32);

impl Process {
    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.0.cast_signed()).context("no process")
    }

    fn lives(&self) -> bool {
        let command = self.read("cmdline");
        command.is_ok_and(|command| command == "synflip\0relay\0")
    }

    fn path(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.0).into()
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.path(file)).with_context(|| format!("read {file}"))
    }

    fn link(&self, file: &str) -> Result<PathBuf> {
        fs::read_link(self.path(file)).with_context(|| format!("read {file}"))
    }
}

/// Where agents find the process.
fn socket(fixture: &Fixture) -> PathBuf {
    fixture.agent.socket().with_extension("sock.relay")
}

const CLIENTS: usize = 20;
/// Clients that say nothing at first.
const IDLE: usize = 5;
/// Of a process that may have few descriptors.
const PLACES: u64 = 8;
/// No capabilities.
const NONE: &str = "0000000000000000";
/// Sockets that the process has besides those of connections: one that listens, one of the agent,
/// three by which tokio waits for signals.
const OWN: usize = 5;
