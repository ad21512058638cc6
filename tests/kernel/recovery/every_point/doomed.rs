//! One service while its agent dies and comes back, and what is left at the end.

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_agent::DieAt;
use synflip_bed::{
    Fixture, Network, Setup,
    capability::scaled,
    fixture::works,
    load::Mode,
    network::Load,
    product::{Generation, Spec, Store},
    wait::{self, SOON},
};
use synflip_bpf::service_dir;

/// So many connections of a [`trickle`] that each listener of a generation gets one.
pub(crate) const SOME: u64 = 10;

/// Listeners of each generation.
const LISTENERS: usize = 2;

/// For so long nothing is done before a death is due, so that it is counted from the same moment
/// each time.
const QUIET: Duration = Duration::from_millis(300);

/// After so long, a death that was due does not come any more.
const LONG: Duration = Duration::from_secs(10);

/// The last generation is waited for no longer than that.
const HOLD: &[&str] = &["--hold", "1"];

/// What has come of a setting.
#[derive(Debug)]
pub(crate) struct Played {
    /// What is left at its end.
    pub(crate) rest: Rest,
    /// The deaths that were possible, in their order; none of an agent that did die.
    pub(crate) window: Vec<DieAt>,
    /// Whether it has died, but not where it was to.
    pub(crate) missed: bool,
}

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
pub(crate) struct Doomed {
    pub(crate) fixture: Fixture,
    store: Arc<Store>,
    die_at: Option<DieAt>,
    generations: u32,
    /// Where in the log the agent that is to die has begun.
    begin: usize,
    /// Where it may die from.
    from: usize,
    window: Vec<DieAt>,
    missed: bool,
    /// What it is started with besides.
    args: &'static [&'static str],
    /// Whether nobody tells the generations that they are to end.
    adopts: bool,
}

impl Doomed {
    /// Starts the agent, which dies where it is told to.
    pub(crate) fn new(stored: bool, die_at: Option<DieAt>) -> Result<Self> {
        Self::with(&[], stored, die_at)
    }

    /// The same with more arguments of the agent.
    pub(crate) fn with(
        args: &'static [&'static str],
        stored: bool,
        die_at: Option<DieAt>,
    ) -> Result<Self> {
        let store = Arc::new(Store::new()?);
        let dies = die_at.map(doom);
        let all: Vec<&str> = [args, HOLD]
            .concat()
            .into_iter()
            .chain(dies.as_deref())
            .collect();
        let mut setup = Setup::new().agent_args(&all).agent_traced();
        if stored {
            setup = setup.store(&store);
        }
        Ok(Self {
            fixture: setup.start()?,
            store,
            die_at,
            generations: 0,
            begin: 0,
            from: 0,
            window: Vec::new(),
            missed: false,
            args,
            adopts: false,
        })
    }

    /// Starts the next generation, agent or no agent.
    pub(crate) fn start(&mut self, args: &[&str]) -> Result<Generation> {
        self.generations += 1;
        let spec = Spec {
            without_agent: true,
            ..self.fixture.spec(self.generations, LISTENERS)
        };
        self.fixture.start(&spec.args(args))
    }

    /// Starts another process of the first generation.
    pub(crate) fn sibling(&self) -> Result<Generation> {
        let spec = Spec {
            without_agent: true,
            ..self.fixture.spec(1, LISTENERS).joins("gen1")
        };
        self.fixture.start(&spec)
    }

    /// Starts a server that links nothing as the next generation.
    pub(crate) fn adopted(&mut self, args: &[&str]) -> Result<Generation> {
        self.generations += 1;
        self.adopts = true;
        let spec = self.fixture.spec(self.generations, LISTENERS);
        self.fixture.adopted(&spec.args(args))
    }

    /// Starts the first generation and waits until it works.
    pub(crate) fn first(&mut self, args: &[&str]) -> Result<Generation> {
        let first = self.start(args)?;
        self.fixture.wait_works("gen1")?;
        Ok(first)
    }

    /// From here on, the agent may die.
    pub(crate) fn may_die(&mut self) -> Result<()> {
        self.from = self.quiet()?;
        ensure!(
            !self.fixture.agent.has_ended(),
            "died too early: {}",
            self.fixture.agent.log()
        );
        Ok(())
    }

    /// Waits until the agent has done what there was to do; returns the number of points that it
    /// has reached then.
    fn quiet(&self) -> Result<usize> {
        let (mut last, mut since) = (0, Instant::now());
        wait::until("the agent has nothing to do", SOON, || {
            let now = self.fixture.agent.reached().len();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= QUIET
        })?;
        Ok(last)
    }

    /// Waits until the agent has died where it was to, and starts it again; in between, new
    /// connections are served as ever. An agent that is not to die reaches its last point instead.
    pub(crate) fn death(&mut self, load: Option<&Load>) -> Result<()> {
        if self.die_at.is_none() {
            let to = self.quiet()?;
            let reached = self.fixture.agent.reached();
            self.window = deaths(&reached[self.begin..to])?.split_off(self.from - self.begin);
            return Ok(());
        }
        self.missed |= !self.has_died_in_time()?;
        self.fixture.agent.kill(Signal::KILL)?;
        if let Some(load) = load {
            load.more(SOME).context("without an agent")?;
        }
        self.restart()
    }

    /// Starts the agent again, and it does not die any more.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let netns = &self.fixture.net.server;
        let args = [self.args, HOLD].concat();
        self.fixture.agent.restart_with(netns, &args)
    }

    /// Waits until it has died, or has had nothing to do for long.
    fn has_died_in_time(&mut self) -> Result<bool> {
        let (mut last, mut since) = (0, Instant::now());
        let agent = &mut self.fixture.agent;
        let waited = wait::until("the agent dies, or has nothing to do", SOON, || {
            let now = agent.reached().len();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            agent.has_ended() || since.elapsed() >= LONG
        });
        waited.with_context(|| agent.log())?;
        if !agent.has_ended() {
            return Ok(false);
        }
        agent.wait_death(SOON).map(|()| true)
    }

    /// Has the agent die of a restart, if it is to die, and starts it once more.
    pub(crate) fn die_returning(&mut self, die_at: Option<DieAt>, load: &Load) -> Result<()> {
        self.begin = self.quiet()?;
        self.from = self.begin;
        match die_at {
            Some(die_at) => {
                self.die_at = Some(die_at);
                let netns = &self.fixture.net.server;
                self.fixture
                    .agent
                    .restart_unasked(netns, &[HOLD, &[&doom(die_at)]].concat())?;
                self.death(Some(load))
            }
            None => {
                self.fixture.restart_agent()?;
                self.wait_kept()?;
                self.death(None)
            }
        }
    }

    /// Waits until the servers have come back to the agent with all of their listeners: until they
    /// try again, it has nothing to do.
    fn wait_kept(&self) -> Result<()> {
        let listeners = LISTENERS * self.generations as usize;
        let kept = || {
            let reached = self.fixture.agent.reached();
            let kept = reached[self.begin..].iter().filter(|p| *p == "after-keep");
            kept.count() >= listeners
        };
        let waited = wait::until("the servers are back", SOON, kept);
        waited.with_context(|| self.fixture.agent.log())
    }

    /// Flips to a generation unless it works already.
    pub(crate) fn flip(&self, to: &str) -> Result<()> {
        if !works(&self.fixture.agent.service()?, to) {
            let flip = self.fixture.agent.flip(to);
            flip.with_context(|| self.fixture.agent.log())?;
        }
        Ok(())
    }

    /// Waits until a generation has ended by itself.
    pub(crate) fn ends(&self, generation: Generation) -> Result<()> {
        let exit = generation.wait_exit(SOON);
        exit.with_context(|| self.fixture.agent.log()).map(drop)
    }

    /// Flips once more: all is as if nothing had happened. Everything before ends, and no
    /// connection of the load is lost.
    pub(crate) fn finish(mut self, load: Option<Load>, before: Vec<Generation>) -> Result<Played> {
        let load = load.unwrap_or_else(|| trickle(&self.fixture.net));
        let last = self.start(&[])?;
        let name = last.name.clone();
        self.fixture.wait_back(&[&name])?;
        load.more(SOME).context("before the last flip")?;
        self.flip(&name)?;
        for old in before {
            if self.adopts {
                old.signal(Signal::TERM)?;
            }
            self.ends(old)?;
        }
        load.more(SOME).context("after the last flip")?;
        load.finish_unharmed()
            .with_context(|| self.fixture.agent.log())?;
        self.fixture.until("nothing else is left", |service| {
            service.generations.len() == 1 && works(service, &name)
        })?;
        self.fixture.agent.check_counters()?;
        Ok(Played {
            rest: self.take_stock(last)?,
            window: self.window,
            missed: self.missed,
        })
    }

    /// Counts what is held, ends the last generation, and counts again.
    fn take_stock(&self, last: Generation) -> Result<Rest> {
        let dir = service_dir(self.fixture.agent.bpffs(), "web");
        let pins = fs::read_dir(&dir).context("list the pins")?;
        let pins = pins.map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()));
        let pins = pins.collect::<Result<_>>()?;
        let (working, stored) = (self.settled_fds()?, self.store.names()?.len());
        last.signal(Signal::TERM)?;
        self.ends(last)?;
        self.fixture.wait_over()?;
        ensure!(!dir.exists(), "pins of a service that is over");
        Ok(Rest {
            fds: [working, self.settled_fds()?],
            pins,
            stored: [stored, self.store.names()?.len()],
        })
    }

    /// The agent's descriptors once nobody but servers is connected any more.
    fn settled_fds(&self) -> Result<usize> {
        let (mut last, mut times) = (0, 0);
        wait::until("the agent's descriptors do not change", SOON, || {
            let now = self.fixture.agent.open_fds().unwrap_or(0);
            times = if now == last { times + 1 } else { 0 };
            last = now;
            times >= 40
        })?;
        Ok(last)
    }
}

/// Clients that come at random times, whether or not anybody serves the earlier ones.
pub(crate) fn trickle(net: &Network) -> Load {
    // Those that wait for a successor have to fit into the queues, also of a slow machine.
    net.load_in(Mode::Open {
        rate: scaled(200).into(),
        max_in_flight: 10_000,
    })
}

/// Each point with how often it has been reached.
fn deaths(reached: &[String]) -> Result<Vec<DieAt>> {
    let nth = |at: usize| reached[..=at].iter().filter(|p| **p == reached[at]).count();
    let deaths = (0..reached.len()).map(|at| Ok(format!("{}:{}", reached[at], nth(at)).parse()?));
    deaths.collect()
}

fn doom(die_at: DieAt) -> String {
    format!("--die-at={die_at}")
}
