//! What does a client lose while generations of a server follow each other under load?

use std::{collections::BTreeMap, fs, net::SocketAddr, ops::RangeInclusive, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, rngs::SmallRng, seq::IteratorRandom as _};
use synflip_bed::{
    Delay, Family, Line, Network, Setup, link,
    load::{self, Config, Outcome, Report, Sample},
    network::Samples,
    note,
    product::{Generation, Operator, Spec},
    wait::{self, MS, SECOND, SOON},
    with_seed,
};
use synflip_wire::ServiceStatus;

use super::certificate::at_commit;

/// Which generations follow each other, and who connects to them meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    /// The hosts and the agent, but for the line.
    pub(crate) setup: Setup,
    /// What is between the clients and the servers.
    pub(crate) line: Line,
    /// Where each generation listens.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where the clients connect, in turn.
    pub(crate) connect: Vec<SocketAddr>,
    /// How often another generation takes over and the old one's process ends.
    pub(crate) flips: u32,
    /// Connections in flight at all times.
    pub(crate) clients: usize,
    /// What one connection may take.
    pub(crate) timeout: Duration,
    /// Listeners on each address; another number in each generation.
    pub(crate) listeners: RangeInclusive<usize>,
    /// More arguments of the server.
    pub(crate) server: Vec<String>,
}

/// What has happened.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What the clients saw.
    pub(crate) report: Report,
    /// What the agent says at the end.
    pub(crate) service: ServiceStatus,
    /// SYNs that clients sent again.
    pub(crate) syns_again: u64,
}

impl Restarts {
    /// One address, 64 clients, and a round trip of a millisecond.
    pub(crate) fn new(family: Family, flips: u32) -> Self {
        let address = (link::server(family), 8080).into();
        Self {
            setup: Setup::new().family(family),
            line: Line::Link(Delay::of(MS)),
            listen: vec![address],
            connect: vec![address],
            flips,
            clients: 64,
            timeout: 20 * SECOND,
            listeners: 1..=6,
            server: Vec::new(),
        }
    }

    /// Flips, and requires of each that nothing is lost and that the agent tells the truth.
    pub(crate) fn steered(&self) -> Result<Seen> {
        with_seed(|rng| {
            let fixture = self.setup(rng).start()?;
            let (agent, mut operator) = (&fixture.agent, Operator::new(&fixture.agent)?);
            let (mut ends, mut served) = (BTreeMap::new(), BTreeMap::new());
            let start = |spec: &Spec| match spec.number {
                1 => fixture.start_working(spec),
                _ => fixture.start(spec),
            };
            let hand_over = |old: Generation, new: &Spec| {
                let name = new.name();
                if new.number.is_multiple_of(5) {
                    // There and back: the rollback is one of the command line's.
                    operator.flip(&name, true, SOON)?;
                    operator.drained(2 * SOON)?;
                    let back = agent.cli(&["rollback", "--keep", "--json"])?;
                    ensure!(back.code == 0, "rollback: {back:?}");
                }
                let committed = operator.flip(&name, false, SOON)?;
                ends.insert(new.number - 1, load::monotonic_us());
                let certificate = operator.drained(2 * SOON)?;
                at_commit(&certificate)?;
                ensure!(certificate.flip == committed, "{certificate:?}");
                served.insert(new.number - 1, old.wait_exit(SOON)?.served);
                Ok(())
            };
            let (report, samples, last) =
                self.follow(&fixture.net, rng, self.flips, start, hand_over)?;
            let service = agent.service()?;
            let accounts = || format!("{service:?}\n{report:?}");
            ensure!(report.lost == 0, "lost {}: {}", report.lost, accounts());
            fixture.check_steered(report.ok).with_context(accounts)?;
            served.insert(self.flips + 1, last.stop()?.served);
            self.check(&fixture.net, &report, service.epoch.0, &served)
                .with_context(accounts)?;
            for sample in samples.iter().filter(|one| one.outcome == Outcome::Ok) {
                let end = ends.get(&sample.generation);
                let late = end.is_some_and(|end| sample.start_us > *end);
                ensure!(!late, "after the flips {ends:?} away from it: {sample:?}");
            }
            let syns_again = fixture.net.client.run(|| tcp_ext("TCPSynRetrans"))?;
            note(&format!(
                "{:?}: {} flips, {} connections, {} lost, {syns_again} SYNs sent again, {:?}",
                self.listen, self.flips, report.ok, report.lost, report.latency_us
            ));
            Ok(Seen {
                report,
                service,
                syns_again,
            })
        })
    }

    /// Checks that the agent, the servers and the clients have seen the same.
    fn check(
        &self,
        net: &Network,
        report: &Report,
        epoch: u64,
        served: &BTreeMap<u32, u64>,
    ) -> Result<()> {
        // Each fifth flip is made three times.
        let number = u64::from(self.flips) + 1;
        ensure!(epoch == number + 2 * (number / 5), "{epoch} flips");
        let answered = |number| report.by_generation.get(number).copied().unwrap_or(0);
        for (number, served) in served {
            ensure!(answered(number) == *served, "gen{number} served {served}");
        }
        ensure!(served.values().sum::<u64>() == report.ok, "{served:?}");
        let busy = report.by_generation.len();
        ensure!(busy as u64 > u64::from(self.flips / 2), "{busy} served");
        let loses = match self.line {
            Line::Link(delay) => delay.loss > 0.0,
            Line::Veth(netem) => netem.is_some(),
            Line::Loopback | Line::Raw => false,
        };
        if !loses {
            let drops = net.server.run(|| tcp_ext("ListenDrops"))?;
            ensure!(drops == 0, "{drops} SYNs or ACKs dropped");
        }
        Ok(())
    }

    /// So many restarts of the same servers without steering.
    pub(crate) fn plain(&self, restarts: u32) -> Result<Report> {
        with_seed(|rng| {
            let net = self.setup(rng).network()?;
            let start = |spec: &Spec| net.plain(spec);
            let hand_over = |old: Generation, _: &Spec| old.stop().map(drop);
            let (report, ..) = self.follow(&net, rng, restarts, start, hand_over)?;
            note(&format!(
                "{:?} without steering: {restarts} restarts, {} connections, {} lost",
                self.listen, report.ok, report.lost
            ));
            Ok(report)
        })
    }

    /// The same load for so long, on a server that nobody replaces.
    pub(crate) fn quiet(&self, length: Duration) -> Result<Report> {
        with_seed(|rng| {
            let net = self.setup(rng).network()?;
            let _server = net.plain(&self.after(None, rng)?)?;
            let (report, ..) = self.under_load(&net, rng.random(), || {
                wait::pause(length);
                Ok(())
            })?;
            Ok(report)
        })
    }

    /// Has a first generation, and so many others one after the other, under load.
    fn follow(
        &self,
        net: &Network,
        rng: &mut SmallRng,
        count: u32,
        start: impl Fn(&Spec) -> Result<Generation>,
        mut hand_over: impl FnMut(Generation, &Spec) -> Result<()>,
    ) -> Result<(Report, Vec<Sample>, Generation)> {
        let mut spec = self.after(None, rng)?;
        let first = start(&spec)?;
        self.under_load(net, rng.random(), || {
            let mut old = first;
            for _ in 0..count {
                wait::pause(rng.random_range(0..40) * MS);
                spec = self.after(Some(&spec), rng)?;
                let new = start(&spec)?;
                wait::pause(rng.random_range(0..20) * MS);
                hand_over(old, &spec)?;
                old = new;
            }
            wait::pause(50 * MS);
            Ok(old)
        })
    }

    /// Makes load for as long as `f` takes.
    fn under_load<T>(
        &self,
        net: &Network,
        seed: u64,
        f: impl FnOnce() -> Result<T>,
    ) -> Result<(Report, Vec<Sample>, T)> {
        let samples = Samples::new()?;
        let load = net.load_with(Config {
            connect: self.connect.clone(),
            timeout: self.timeout,
            seed,
            samples: Some(samples.file()),
            ..Config::closed(self.connect[0], self.clients, 3600 * SECOND)
        });
        let result = f();
        let report = load.finish()?;
        let result = result.with_context(|| format!("{report:?}"))?;
        Ok((report, samples.read()?, result))
    }

    fn setup(&self, rng: &mut SmallRng) -> Setup {
        let line = match self.line {
            Line::Link(delay) => Line::Link(Delay {
                seed: rng.random(),
                ..delay
            }),
            line => line,
        };
        self.setup.clone().line(line)
    }

    /// How the next generation runs: with another number of listeners than the one before.
    fn after(&self, last: Option<&Spec>, rng: &mut SmallRng) -> Result<Spec> {
        let (number, listeners) = last.map_or((0, 0), |last| (last.number, last.listeners));
        let others = self.listeners.clone().filter(|count| *count != listeners);
        let count = others.choose(rng).context("a number of listeners")?;
        Ok(Spec {
            listen: self.listen.clone(),
            args: self.server.clone(),
            ..Spec::new(number + 1, self.listen[0], count)
        })
    }
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
