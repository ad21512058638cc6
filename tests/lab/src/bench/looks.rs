//! Does the agent's work cost more beside many established connections?
//!
//! They are somebody else's: of another network namespace and the other IP version. The kernel has
//! the connections of all in one table, and whatever walks it meets them. Both kinds of rounds
//! alternate, so that what else the host does matters less.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{
    Family, Fixture, Netns, Setup,
    fixture::works,
    product::{Generation, Operator, name},
    raw::{self, RawClient, Reply},
    wait::{self, SOON},
};

use super::measure::{Spread, met};
use crate::command::{Interrupt, Screen, count, ms, table};

#[derive(Serialize)]
pub(super) struct Looks {
    connections: u32,
    rounds: u32,
    /// A status: one look at each listener.
    look_ms: Beside,
    /// The agent's processor time for one, the mean of each round: what else the host does matters
    /// less to it.
    look_cpu_ms: Beside,
    /// From a flip's commit until the old generation is drained.
    drain_ms: Beside,
    /// From the kill of the working generation until the next one works.
    death_ms: Beside,
    goal: f64,
}

/// The same thing beside no connections, and beside many.
#[derive(Clone, Copy, Serialize)]
struct Beside {
    none: Spread,
    many: Spread,
    /// Of the medians.
    ratio: f64,
}

impl Beside {
    fn of(none: &Times, many: &Times, which: impl Fn(&Times) -> &Vec<f64>) -> Self {
        let (none, many) = (Spread::of(which(none)), Spread::of(which(many)));
        Self {
            none,
            many,
            ratio: many.p50 / none.p50,
        }
    }
}

pub(super) fn measure(
    connections: u32,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Looks> {
    let mut service = Service::start()?;
    let (mut none, mut many) = (Times::default(), Times::default());
    // What is made once, and what is loaded by then.
    service.measure(&mut Times::default(), interrupt)?;
    for round in 1..=ROUNDS {
        screen.state(|| format!("looks: {round} of {ROUNDS}"))?;
        service.measure(&mut none, interrupt)?;
        let crowd = Crowd::gather(connections, interrupt)?;
        service.measure(&mut many, interrupt)?;
        drop(crowd);
    }
    Ok(Looks {
        connections,
        rounds: ROUNDS,
        look_ms: Beside::of(&none, &many, |times| &times.look),
        look_cpu_ms: Beside::of(&none, &many, |times| &times.look_cpu),
        drain_ms: Beside::of(&none, &many, |times| &times.drain),
        death_ms: Beside::of(&none, &many, |times| &times.death),
        goal: GOAL,
    })
}

impl Looks {
    pub(super) fn describe(&self) -> String {
        let row = |name: &str, beside: Beside| {
            vec![
                name.to_owned(),
                ms(beside.none.p50),
                ms(beside.many.p50),
                format!("{:.2}", beside.ratio),
                met(beside.ratio <= self.goal).to_owned(),
            ]
        };
        let rows = [
            row("a look at a status", self.look_ms),
            row("the agent's processor time for it", self.look_cpu_ms),
            row("a drain with nothing pending", self.drain_ms),
            row("a dead process is replaced", self.death_ms),
        ];
        let connections = count(self.connections.into());
        let beside = format!("BESIDE {connections}");
        let goal = format!("AT MOST {}", self.goal);
        let header = ["", "BESIDE NONE", &beside, "RATIO", &goal];
        format!(
            "\nlooks: medians beside {connections} established connections of somebody else, in \
             {} rounds of each, alternating\n{}",
            self.rounds,
            table(&header, rows),
        )
    }
}

/// What was measured, in milliseconds.
#[derive(Default)]
struct Times {
    look: Vec<f64>,
    look_cpu: Vec<f64>,
    drain: Vec<f64>,
    death: Vec<f64>,
}

/// A service with one generation at work and one on standby.
struct Service {
    generations: VecDeque<Generation>,
    /// The number of the one that works; the next one stands by.
    working: u32,
    operator: Operator,
    fixture: Fixture,
}

impl Service {
    fn start() -> Result<Self> {
        let fixture = Setup::new().family(Family::V6).start()?;
        let operator = Operator::new(&fixture.agent)?;
        let mut service = Self {
            generations: VecDeque::new(),
            working: 1,
            operator,
            fixture,
        };
        service.begin(1)?;
        service.fixture.wait_works(&name(1))?;
        service.begin(2)?;
        Ok(service)
    }

    fn begin(&mut self, number: u32) -> Result<()> {
        let spec = self.fixture.spec(number, LISTENERS);
        self.generations.push_back(self.fixture.start(&spec)?);
        Ok(())
    }

    fn measure(&mut self, times: &mut Times, interrupt: &Interrupt) -> Result<()> {
        let before = self.fixture.agent.processor_time()?;
        for _ in 0..LOOKS {
            let begun = Instant::now();
            self.operator.service()?;
            times.look.push(elapsed_ms(begun));
        }
        let used = self.fixture.agent.processor_time()? - before;
        times
            .look_cpu
            .push(used.as_secs_f64() * 1000.0 / f64::from(LOOKS));
        interrupt.check()?;
        for _ in 0..FLIPS {
            // There and back.
            for to in [self.working + 1, self.working] {
                self.operator.flip(&name(to), true, SOON)?;
                let begun = Instant::now();
                self.operator.drained(SOON)?;
                times.drain.push(elapsed_ms(begun));
            }
            interrupt.check()?;
        }
        for _ in 0..DEATHS {
            let working = self.generations.pop_front().context("a generation")?;
            let next = name(self.working + 1);
            let begun = Instant::now();
            working.kill()?;
            let mut failed = None;
            wait::until("the next generation works", SOON, || {
                let status = self.operator.service();
                let is_over = status.as_ref().map(|service| works(service, &next));
                failed = is_over.as_ref().err().map(ToString::to_string);
                is_over.unwrap_or(true)
            })?;
            ensure!(failed.is_none(), "{failed:?}");
            times.death.push(elapsed_ms(begun));
            self.working += 1;
            self.begin(self.working + 1)?;
            let alone = |service: &synflip_wire::ServiceStatus| service.generations.len() == 2;
            self.fixture.until("the dead one is forgotten", alone)?;
            interrupt.check()?;
        }
        Ok(())
    }
}

/// Established connections that cost nobody a descriptor: the server has not accepted them, and
/// the clients are a wire.
struct Crowd {
    _listener: TcpListener,
    _wire: RawClient,
    _netns: Netns,
}

impl Crowd {
    fn gather(connections: u32, interrupt: &Interrupt) -> Result<Self> {
        let netns = Netns::new()?;
        let room = (connections + 1).to_string();
        netns.sysctl("net.core.somaxconn", &room)?;
        let wire = RawClient::new(&netns)?;
        let at = SocketAddr::from((raw::server(Family::V4), PORT));
        let listener = netns.run(|| -> Result<TcpListener> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&at.into())?;
            socket.listen(i32::try_from(connections + 1).context("so many connections")?)?;
            Ok(socket.into())
        })?;
        for number in 0..connections {
            let host = u16::try_from(number / PORTS).context("so many connections")? + 2;
            let port = u16::try_from(number % PORTS).context("a port")? + FIRST_PORT;
            let mut client = wire.syn(raw::client(Family::V4, host, port), at)?;
            let reply = client.recv_syn_ack(SOON)?;
            ensure!(reply == Reply::SynAck, "{number}: {reply:?}");
            client.ack()?;
            if number % 1000 == 0 {
                interrupt.check()?;
            }
        }
        Ok(Self {
            _listener: listener,
            _wire: wire,
            _netns: netns,
        })
    }
}

fn elapsed_ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

const GOAL: f64 = 1.5;
const ROUNDS: u32 = 5;
const LISTENERS: usize = 8;
const LOOKS: u32 = 100;
const FLIPS: u32 = 10;
const DEATHS: u32 = 5;
const PORT: u16 = 4000;
const FIRST_PORT: u16 = 10_000;
/// Of each client's address.
const PORTS: u32 = 50_000;
