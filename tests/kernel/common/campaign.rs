//! What does a client lose while generations of a server follow each other under load?

#[path = "road.rs"]
mod road;

use std::{collections::BTreeMap, fs, net::SocketAddr, ops::RangeInclusive, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, rngs::SmallRng};
use rustix::process::Signal;
use synflip_bed::{
    Delay, Netem,
    load::{self, Outcome, Report},
    product::{Agent, Generation, Operator, Options, Spec},
    wait,
};
use synflip_wire::{Certificate, Committed, DrainEnd, ServiceStatus};

pub(crate) use road::Road;

/// What is to happen.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// Where each generation listens.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where the clients connect, in turn.
    pub(crate) connect: Vec<SocketAddr>,
    /// What is between the two.
    pub(crate) delay: Delay,
    /// A line of the kernel's own instead, which netem makes a bad one.
    pub(crate) netem: Option<Netem>,
    /// How often another generation takes over and the old one's process ends.
    pub(crate) flips: u32,
    /// Connections in flight at all times.
    pub(crate) clients: usize,
    /// What one connection may take.
    pub(crate) timeout: Duration,
    /// Listeners on each address; another number in each generation.
    pub(crate) listeners: RangeInclusive<usize>,
    /// How the agent runs.
    pub(crate) agent: Options,
    /// More arguments of the server.
    pub(crate) server: Vec<String>,
}

impl Campaign {
    /// One address and 64 clients.
    pub(crate) fn new(address: SocketAddr, delay: Delay, flips: u32) -> Self {
        Self {
            listen: vec![address],
            connect: vec![address],
            delay,
            netem: None,
            flips,
            clients: 64,
            timeout: 20 * SECOND,
            listeners: 1..=6,
            agent: Options::default(),
            server: Vec::new(),
        }
    }
}

/// What has happened.
#[derive(Debug)]
pub(crate) struct Story {
    /// What the clients saw.
    pub(crate) report: Report,
    /// What the agent says at the end.
    pub(crate) service: ServiceStatus,
    /// SYNs that clients sent again.
    pub(crate) syns_again: u64,
}

impl Campaign {
    /// Flips, and requires of each that nothing is lost and that the agent tells the truth.
    pub(crate) fn steered(&self, rng: &mut SmallRng) -> Result<Story> {
        let road = Road::new(self.delay, self.netem)?;
        let agent = Agent::start_with(&road.server, self.agent.clone())?;
        let mut count = 0;
        let mut start = |rng: &mut SmallRng, number| {
            count = self.other_than(count, rng);
            Generation::start(&road.server, &agent, &self.spec(number, count))
        };
        let first = start(rng, 1)?;
        wait::until("the first generation works", SOON, || {
            agent
                .service()
                .is_ok_and(|service| service.working.is_some())
        })?;
        let mut operator = Operator::new(&agent)?;
        let (mut ends, mut served) = (BTreeMap::new(), BTreeMap::new());
        let seed = rng.random();
        let (report, last) = road.load(self, seed, || {
            let mut old = first;
            for number in 2..self.flips + 2 {
                wait::pause(rng.random_range(0..40) * MS);
                let new = start(rng, number)?;
                wait::pause(rng.random_range(0..20) * MS);
                if number % 5 == 0 {
                    // There and back: the rollback is one of the command line's.
                    operator.flip(&new.name, true, SOON)?;
                    operator.drained(2 * SOON)?;
                    let back = agent.cli(&["rollback", "--keep", "--json"])?;
                    ensure!(back.code == 0, "rollback: {back:?}");
                }
                let committed = operator.flip(&new.name, false, SOON)?;
                ends.insert(number - 1, load::monotonic_us());
                complete(&operator.drained(2 * SOON)?, &committed)?;
                let exit = old.wait_exit(SOON)?;
                served.insert(number - 1, exit.served);
                old = new;
            }
            wait::pause(50 * MS);
            Ok(old)
        })?;
        let counters = || format!("{:?}\n{:?}", agent.service(), report);
        let service = operator.service()?;
        ensure!(report.lost == 0, "lost {}: {}", report.lost, counters());
        agent.check_counters().with_context(counters)?;
        let selected: u64 = service.endpoints.iter().map(|e| e.selected).sum();
        ensure!(
            selected >= report.ok,
            "not all were steered: {}",
            counters()
        );

        last.signal(Signal::TERM)?;
        served.insert(self.flips + 1, last.wait_exit(SOON)?.served);
        let answered = |number: &u32| report.by_generation.get(number).copied().unwrap_or(0);
        for (number, served) in &served {
            ensure!(
                answered(number) == *served,
                "gen{number} served {served}: {}",
                counters()
            );
        }
        ensure!(served.values().sum::<u64>() == report.ok, "{}", counters());
        let busy = report.by_generation.len();
        ensure!(
            busy as u64 > u64::from(self.flips / 2),
            "{busy} generations: {}",
            counters()
        );
        for sample in road
            .samples()?
            .iter()
            .filter(|sample| sample.outcome == Outcome::Ok)
        {
            let late = ends
                .get(&sample.generation)
                .is_some_and(|end| sample.start_us > *end);
            ensure!(!late, "after the flips {ends:?} away from it: {sample:?}");
        }
        if self.delay.loss == 0.0 && self.netem.is_none() {
            let drops = road.server.run(|| tcp_ext("ListenDrops"))?;
            ensure!(drops == 0, "{drops} SYNs or ACKs dropped: {}", counters());
        }
        let syns_again = road.client.run(|| tcp_ext("TCPSynRetrans"))?;
        Ok(Story {
            report,
            service,
            syns_again,
        })
    }

    /// The same restarts without steering.
    pub(crate) fn plain(&self, rng: &mut SmallRng, restarts: u32) -> Result<Report> {
        let road = Road::new(self.delay, self.netem)?;
        let mut count = 0;
        let mut start = |rng: &mut SmallRng, number| {
            count = self.other_than(count, rng);
            Generation::start_plain(&road.server, &self.spec(number, count))
        };
        let first = start(rng, 1)?;
        let seed = rng.random();
        let (report, _last) = road.load(self, seed, || {
            let mut old = first;
            for number in 2..restarts + 2 {
                wait::pause(rng.random_range(0..40) * MS);
                let new = start(rng, number)?;
                wait::pause(rng.random_range(0..20) * MS);
                old.signal(Signal::TERM)?;
                old.wait_exit(SOON)?;
                old = new;
            }
            wait::pause(50 * MS);
            Ok(old)
        })?;
        Ok(report)
    }

    pub(crate) fn spec(&self, number: u32, listeners: usize) -> Spec {
        Spec {
            listen: self.listen.clone(),
            args: self.server.clone(),
            ..Spec::new(number, self.listen[0], listeners)
        }
    }

    fn other_than(&self, last: usize, rng: &mut SmallRng) -> usize {
        let (from, to) = self.listeners.clone().into_inner();
        match rng.random_range(from..=to) {
            same if same == last => {
                if same == to {
                    from
                } else {
                    same + 1
                }
            }
            other => other,
        }
    }
}

/// Whether a certificate says of each listener when it was empty.
fn complete(certificate: &Certificate, committed: &Committed) -> Result<()> {
    ensure!(certificate.end == DrainEnd::Drained, "{certificate:?}");
    ensure!(certificate.flip == *committed, "{certificate:?}");
    for listener in &certificate.listeners {
        let last = listener
            .steps
            .last()
            .context("a listener without a reading")?;
        ensure!(
            last.is_empty() && listener.empty_after_ms.is_some(),
            "{certificate:?}"
        );
    }
    Ok(())
}

/// A counter of the calling thread's namespace.
fn tcp_ext(counter: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").context("read netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).context("no TcpExt")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(name, _)| *name == counter)
        .with_context(|| format!("no {counter}"))?;
    value.parse().context("a counter")
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// For what happens within milliseconds, except on a slow virtual machine, and for drains that
/// wait for a retransmission.
const SOON: Duration = Duration::from_secs(60);
