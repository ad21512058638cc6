//! A service of the earlier release in all the states that one can be in, under load.

use std::{env, mem, net::TcpStream, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use synflip_bed::{
    Delay, Family, Fixture, Line, Network, Setup,
    load::{Config, Mode, Report},
    network::{Load, answers},
    product::{Generation, Spec, Store, Version2},
    wait::{MS, SECOND, SOON},
};

use crate::status::{carried, generation, of_endpoints, pending, service, until, works};

/// How many clients come each second, whatever becomes of the ones before them.
const RATE: f64 = 300.0;
/// How many more are queued at the generation that drains.
const QUEUED: usize = 5;

/// gen1 has drained and closed, gen2 is kept, gen3 drains, gen4 works. They listen at two
/// addresses.
pub(crate) struct Release {
    pub(crate) fixture: Fixture,
    pub(crate) load: Load,
    servers: Vec<Generation>,
    /// Clients of gen3, which has never accepted.
    queued: Vec<TcpStream>,
    /// What the agent has said last.
    said: Value,
    /// Whether something keeps the agent's descriptors.
    stored: bool,
}

impl Release {
    /// Starts all that, and clients that go on to connect.
    pub(crate) fn new(family: Family, store: Option<&Arc<Store>>) -> Result<Self> {
        let mut setup = on_a_line(family).programs(Some(&old_programs()?));
        if let Some(store) = store {
            setup = setup.store(store);
        }
        let fixture = setup.start()?;
        let start = |number, args: &[&str]| {
            // Its programs are the agent's.
            fixture.start(&at_both(&fixture.net, number).args(args))
        };
        let first = start(1, &[])?;
        until(&fixture, "gen1 works", |s| works(s, "gen1"))?;
        let load = begin_load(&fixture.net);
        load.more(100)?;
        let kept = start(2, &[])?;
        fixture.agent.succeed(&["flip", "--to", "gen2"])?;
        first.wait_exit(SOON)?;
        let draining = start(3, &["--stop-accepting"])?;
        let working = start(4, &[])?;
        load.more(100)?;
        fixture.agent.succeed(&["flip", "--to", "gen3", "--keep"])?;
        let queued = fixture.net.clients(QUEUED)?;
        fixture
            .agent
            .succeed(&["flip", "--to", "gen4", "--no-wait"])?;
        let said = until(&fixture, "gen2 is kept and gen3 drains", |s| {
            generation(s, "gen2")["phase"] == "standby"
                && generation(s, "gen3")["phase"] == "draining"
                && pending(s, "gen3", "half_open") == Some(0)
                && pending(s, "gen3", "queued") >= Some(QUEUED as u64)
        })?;
        load.more(100)?;
        Ok(Self {
            fixture,
            load,
            servers: vec![kept, draining, working],
            queued,
            said,
            stored: store.is_some(),
        })
    }

    /// Ends its agent.
    pub(crate) fn end_agent(&mut self, by: Signal) -> Result<()> {
        self.fixture.agent.kill(by)?;
        self.load.more(100)
    }

    /// Starts the agent of this release, and checks that it counts on from where the one before was.
    pub(crate) fn start_new_agent(&mut self) -> Result<()> {
        self.fixture.agent.upgrade(&self.fixture.net.server)?;
        let counted = |s| -> Vec<Option<u64>> {
            let all = of_endpoints(s, "selected").into_iter();
            all.map(Value::as_u64).collect()
        };
        // At once: later, clients that have come since would make up for what was forgotten.
        let now = service(&self.fixture)?;
        let (before, now) = (counted(&self.said), counted(&now));
        let grown = before.iter().zip(&now).all(|(before, now)| before <= now);
        ensure!(
            grown && before.len() == now.len(),
            "{before:?} were steered before, and {now:?} now"
        );
        Ok(())
    }

    /// Checks that the new agent says what the old one has said, and that nothing of that is
    /// pinned any more.
    pub(crate) fn is_carried_over(&self) -> Result<()> {
        let before = carried(&self.said);
        let after = until(&self.fixture, "it is as it was", |s| carried(s) == before);
        let after = after.with_context(|| format!("it was {before:#}"))?;
        self.old_pins_are_gone()?;
        if !self.stored {
            return Ok(());
        }
        // Nobody but systemd has a tombstone besides the agent.
        let tombstones = |s| format!("{:?}", of_endpoints(s, "tombstones"));
        let (before, now) = (tombstones(&self.said), tombstones(&after));
        ensure!(before == now, "{before} tombstones before, and {now} now");
        Ok(())
    }

    /// Waits until nothing of the earlier release is pinned.
    pub(crate) fn old_pins_are_gone(&self) -> Result<()> {
        let pins = Version2::dir(self.fixture.agent.bpffs(), "web");
        let gone = |_: &_| !pins.exists();
        self.fixture.until("the old pins are gone", gone).map(drop)
    }

    /// Has a generation of this release take over.
    pub(crate) fn succeed_it(&mut self) -> Result<()> {
        let new = self.fixture.start(&at_both(&self.fixture.net, 5))?;
        self.servers.push(new);
        self.load.more(100)?;
        self.flip("gen5")
    }

    /// Flips, waits until the old generation has drained, and keeps it.
    pub(crate) fn flip(&self, to: &str) -> Result<()> {
        self.fixture.agent.flip_with(to, &["--keep"])?;
        self.load.more(100)
    }

    /// Has the draining generation accept, and checks that the clients that wait get an answer,
    /// and from whom.
    pub(crate) fn draining_goes_on(&mut self) -> Result<()> {
        self.server("gen3")?.signal(Signal::USR1)?;
        self.queued_are_answered_by(3)
    }

    /// Checks that the clients that were queued get an answer from a generation.
    pub(crate) fn queued_are_answered_by(&mut self, number: u32) -> Result<()> {
        let by = answers(mem::take(&mut self.queued))?;
        ensure!(by == [number; QUEUED], "{by:?}");
        Ok(())
    }

    /// A server that runs.
    pub(crate) fn server(&self, name: &str) -> Result<&Generation> {
        let found = self.servers.iter().find(|server| server.name == name);
        found.with_context(|| format!("{name} does not run"))
    }

    /// Kills servers.
    pub(crate) fn kill(&mut self, names: &[&str]) -> Result<()> {
        let is_one = |server: &mut Generation| names.contains(&server.name.as_str());
        for server in self.servers.extract_if(.., is_one) {
            server.kill()?;
        }
        self.load.more(100)
    }

    /// Ends the servers of the earlier release: nobody tells them to close, so whoever deploys them
    /// does it. Then ends the load, in which each connection must have been answered, and steered.
    pub(crate) fn finish(mut self) -> Result<Report> {
        let is_old = |server: &mut Generation| server.name != "gen5";
        for server in self.servers.extract_if(.., is_old) {
            server.stop()?;
        }
        let only_gen5 = |s: &Value| {
            s["generations"]
                .as_array()
                .is_some_and(|all| all.len() == 1)
        };
        until(&self.fixture, "the old servers are gone", only_gen5)?;
        self.load.more(100)?;
        let report = self.load.finish_unharmed()?;
        ensure!(report.overrun == 0, "{report:?}");
        self.fixture.check_steered(report.ok)?;
        Ok(report)
    }
}

/// Where the programs of 0.1.0 are.
pub(crate) fn old_programs() -> Result<PathBuf> {
    let dir = env::var_os("SYNFLIP_OLD_BIN_DIR").context(
        "SYNFLIP_OLD_BIN_DIR does not name the programs of the earlier release; \
         `cargo xtask test carry-over` builds them",
    )?;
    Ok(dir.into())
}

/// Clients and servers with a round trip between them.
pub(crate) fn on_a_line(family: Family) -> Setup {
    Setup::new()
        .family(family)
        .line(Line::Link(Delay::of(10 * MS)))
}

/// A generation with two listeners at each of two addresses.
pub(crate) fn at_both(net: &Network, number: u32) -> Spec {
    let mut spec = net.spec(number, 2);
    let mut second = net.address;
    second.set_port(second.port() + 1);
    spec.listen.push(second);
    spec
}

/// Clients that come at random times, so that those that wait keep nobody else away.
pub(crate) fn begin_load(net: &Network) -> Load {
    let mode = Mode::Open {
        rate: RATE,
        max_in_flight: 10_000,
    };
    net.load_with(Config {
        connect: at_both(net, 0).listen,
        timeout: 2 * SOON,
        mode,
        ..Config::closed(net.address, 1, 3600 * SECOND)
    })
}
