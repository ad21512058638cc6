//! One service while its agent dies and comes back, and what is left at the end.

use std::{collections::BTreeSet, fs, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_agent::DieAt;
use synflip_bpf::service_dir;
use synflip_bed::{
    capability::scaled,
    load::Mode,
    product::{Generation, Options, Spec, Store},
    wait,
};
use synflip_wire::{Phase, ServiceStatus};

use crate::bed::{ADDRESS, Bed, Load, SOON, find, works};

/// What is held: to be compared with what is where nobody has died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The agent's descriptors while one generation works, and when the service is over.
    fds: [usize; 2],
    /// The pins while one generation works.
    pins: BTreeSet<String>,
    /// What systemd keeps while one generation works, and when the service is over.
    stored: [usize; 2],
}

/// An agent that is to die, and the generations of a server.
pub(crate) struct Story {
    pub(crate) bed: Bed,
    store: Arc<Store>,
    die_at: Option<DieAt>,
    generations: u32,
}

impl Story {
    /// Starts the agent, which dies where it is told to.
    pub(crate) fn new(stored: bool, die_at: Option<DieAt>) -> Result<Self> {
        let store = Arc::new(Store::new()?);
        let bed = Bed::with_options(Options {
            args: die_at.map(doom).into_iter().collect(),
            store: stored.then(|| Arc::clone(&store)),
            ..Options::default()
        })?;
        Ok(Self {
            bed,
            store,
            die_at,
            generations: 0,
        })
    }

    /// Starts the next generation, agent or no agent.
    pub(crate) fn start(&mut self, args: &[&str]) -> Result<Generation> {
        self.generations += 1;
        let spec = Spec {
            without_agent: true,
            ..Spec::new(self.generations, ADDRESS, 2)
        };
        let spec = args.iter().fold(spec, |spec, arg| spec.arg(arg));
        Generation::start(&self.bed.netns, &self.bed.agent, &spec)
    }

    /// Starts the first generation and waits until it works.
    pub(crate) fn first(&mut self, args: &[&str]) -> Result<Generation> {
        let first = self.start(args)?;
        self.until_works("gen1")?;
        Ok(first)
    }

    /// Waits until the agent has died where it was to, and starts it again; in between, new
    /// connections are served as ever.
    pub(crate) fn death(&mut self, load: Option<&Load>) -> Result<()> {
        if self.die_at.is_none() {
            return Ok(());
        }
        self.bed.agent.wait_death(SOON)?;
        if let Some(load) = load {
            load.more(20).context("without an agent")?;
        }
        self.bed.agent.restart_with(&self.bed.netns, &[])
    }

    /// Has the agent die of a restart, if it is to die, and starts it once more.
    pub(crate) fn die_returning(&mut self, die_at: Option<DieAt>, load: &Load) -> Result<()> {
        let netns = Arc::clone(&self.bed.netns);
        match die_at {
            Some(die_at) => {
                self.die_at = Some(die_at);
                self.bed.agent.restart_unasked(&netns, &[&doom(die_at)])?;
                self.death(Some(load))
            }
            None => self.bed.agent.restart(&netns),
        }
    }

    /// Waits until a generation works.
    pub(crate) fn until_works(&self, name: &str) -> Result<()> {
        let what = format!("{name} works");
        self.bed.until(&what, |s| works(s, name)).map(drop)
    }

    /// Waits until all these generations are back.
    pub(crate) fn back(&self, names: &[&str]) -> Result<ServiceStatus> {
        self.bed.until("all are back", |service| {
            names.iter().all(|name| is_back(service, name))
        })
    }

    /// Flips to a generation unless it works already.
    pub(crate) fn flip(&self, to: &str) -> Result<()> {
        if !works(&self.bed.agent.service()?, to) {
            let flip = self.bed.agent.flip(to);
            flip.with_context(|| self.bed.agent.log())?;
        }
        Ok(())
    }

    /// Waits until a generation has ended by itself.
    pub(crate) fn ends(&self, generation: Generation) -> Result<()> {
        let exit = generation.wait_exit(SOON);
        exit.with_context(|| self.bed.agent.log()).map(drop)
    }

    /// Flips once more: all is as if nothing had happened. Everything before ends, and no
    /// connection of the load is lost.
    pub(crate) fn finish(mut self, load: Option<Load>, before: Vec<Generation>) -> Result<Rest> {
        let load = load.unwrap_or_else(|| trickle(&self.bed));
        let last = self.start(&[])?;
        let name = last.name.clone();
        self.back(&[&name])?;
        load.more(20).context("before the last flip")?;
        self.flip(&name)?;
        for old in before {
            self.ends(old)?;
        }
        load.more(20).context("after the last flip")?;
        load.finish_unharmed()
            .with_context(|| self.bed.agent.log())?;
        self.bed.until("nothing else is left", |service| {
            service.generations.len() == 1 && works(service, &name)
        })?;
        self.bed.agent.check_counters()?;
        self.take_stock(last)
    }

    /// Counts what is held, ends the last generation, and counts again.
    fn take_stock(&self, last: Generation) -> Result<Rest> {
        let dir = service_dir(self.bed.agent.bpffs(), "web");
        let pins = fs::read_dir(&dir).context("list the pins")?;
        let pins = pins.map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()));
        let pins = pins.collect::<Result<_>>()?;
        let (working, stored) = (self.settled_fds()?, self.store.names()?.len());
        last.signal(Signal::TERM)?;
        self.ends(last)?;
        self.over()?;
        ensure!(!dir.exists(), "pins of a service that is over");
        Ok(Rest {
            fds: [working, self.settled_fds()?],
            pins,
            stored: [stored, self.store.names()?.len()],
        })
    }

    /// Waits until there is no service any more.
    pub(crate) fn over(&self) -> Result<()> {
        let over = wait::until("the service is over", SOON, || {
            let status = self.bed.agent.status();
            status.is_ok_and(|status| status.services.is_empty())
        });
        over.with_context(|| self.bed.agent.log())
    }

    /// The agent's descriptors once nobody but servers is connected any more.
    fn settled_fds(&self) -> Result<usize> {
        let (mut last, mut times) = (0, 0);
        wait::until("the agent's descriptors do not change", SOON, || {
            let now = self.bed.agent.open_fds().unwrap_or(0);
            times = if now == last { times + 1 } else { 0 };
            last = now;
            times >= 40
        })?;
        Ok(last)
    }
}

/// Whether a generation has a process that has registered and said that it is ready.
pub(crate) fn is_back(service: &ServiceStatus, name: &str) -> bool {
    find(service, name).is_some_and(|g| !g.pids.is_empty() && g.phase != Phase::Registered)
}

/// Clients that come at random times, whether or not anybody serves the earlier ones.
pub(crate) fn trickle(bed: &Bed) -> Load {
    // Those that wait for a successor have to fit into the queues, also of a slow machine.
    bed.load_in(Mode::Open {
        rate: scaled(200).into(),
        max_in_flight: 10_000,
    })
}

fn doom(die_at: DieAt) -> String {
    format!("--die-at={die_at}")
}
