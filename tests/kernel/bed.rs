//! What most tests of the product begin with: an agent, generations of a server, and clients.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use synflip_bed::{
    Netns,
    load::{self, Config, Mode, Report},
    product::{Agent, Generation, Options, Spec},
    wait,
};
use synflip_wire::{GenerationStatus, ServiceStatus};

/// Where every generation listens, in a namespace of its own.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

/// Time for what takes milliseconds, on the slowest machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// An agent in a namespace of its own.
pub(crate) struct Bed {
    pub(crate) agent: Agent,
    pub(crate) netns: Arc<Netns>,
}

impl Bed {
    pub(crate) fn new() -> Result<Self> {
        Self::with(&[])
    }

    /// The same, with arguments for the agent.
    pub(crate) fn with(args: &[&str]) -> Result<Self> {
        let args = args.iter().map(ToString::to_string).collect();
        Self::with_options(Options {
            args,
            ..Options::default()
        })
    }

    /// The same, with an agent of another kind.
    pub(crate) fn with_options(options: Options) -> Result<Self> {
        let netns = Arc::new(Netns::new()?);
        let agent = Agent::start_with(&netns, options)?;
        Ok(Self { agent, netns })
    }

    /// Starts generation `number` with two listeners.
    pub(crate) fn generation(&self, number: u32, args: &[&str]) -> Result<Generation> {
        let spec = Spec::new(number, ADDRESS, 2);
        let spec = args.iter().fold(spec, |spec, arg| spec.arg(arg));
        Generation::start(&self.netns, &self.agent, &spec)
    }

    /// Starts the first generation and waits until new connections go to it.
    pub(crate) fn first(&self, args: &[&str]) -> Result<Generation> {
        let first = self.generation(1, args)?;
        self.until("the first generation works", |service| {
            works(service, "gen1")
        })?;
        Ok(first)
    }

    /// Waits until the only service is as wanted.
    pub(crate) fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ServiceStatus) -> bool,
    ) -> Result<ServiceStatus> {
        let mut last = None;
        let waited = wait::until(what, SOON, || {
            last = self.agent.service().ok();
            last.as_ref().is_some_and(&wanted)
        });
        waited.with_context(|| format!("{last:#?}\n{}", self.agent.log()))?;
        last.context("no status")
    }

    /// Connections that have sent their request and wait for the answer.
    pub(crate) fn clients(&self, count: usize) -> Result<Vec<TcpStream>> {
        let connect = || -> Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&ADDRESS, SOON).context("connect")?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(REQUEST).context("send a request")?;
            Ok(stream)
        };
        self.netns.run(|| (0..count).map(|_| connect()).collect())
    }

    /// The numbers of the generations that answer `count` new connections.
    pub(crate) fn answers(&self, count: usize) -> Result<Vec<u32>> {
        answers(self.clients(count)?)
    }

    /// Starts clients that connect over and over again.
    pub(crate) fn load(&self, clients: usize) -> Load {
        self.load_in(Mode::Closed { clients })
    }

    /// Starts clients that connect in another way.
    pub(crate) fn load_in(&self, mode: Mode) -> Load {
        let config = Config {
            timeout: SOON,
            mode,
            ..Config::closed(ADDRESS, 1, Duration::from_secs(600))
        };
        let (stop, ok) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (netns, stopped, counted) = (Arc::clone(&self.netns), stop.clone(), ok.clone());
        let thread = thread::spawn(move || {
            netns.run(|| {
                load::run_with(&config, &stopped, |progress| {
                    counted.store(progress.ok, Relaxed);
                    Ok(())
                })
            })
        });
        Load { stop, ok, thread }
    }
}

/// Clients that connect over and over again.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    ok: Arc<AtomicU64>,
    thread: JoinHandle<Result<Report>>,
}

impl Load {
    /// Waits until so many more connections have been answered.
    pub(crate) fn more(&self, count: u64) -> Result<()> {
        let goal = self.ok.load(Relaxed) + count;
        wait::until("the load goes on", SOON, || {
            self.ok.load(Relaxed) >= goal || self.thread.is_finished()
        })?;
        ensure!(!self.thread.is_finished(), "the load has failed");
        Ok(())
    }

    /// Opens no more connections, follows the open ones to their end.
    pub(crate) fn finish(self) -> Result<Report> {
        self.stop.store(true, Relaxed);
        let report = self
            .thread
            .join()
            .map_err(|_panic| anyhow!("the load panicked"))??;
        ensure!(report.local_errors.count == 0, "{report:?}");
        Ok(report)
    }

    /// As [`Self::finish`], and every connection must have been answered.
    pub(crate) fn finish_unharmed(self) -> Result<Report> {
        let report = self.finish()?;
        ensure!(report.lost == 0 && report.ok > 0, "{report:?}");
        Ok(report)
    }
}

/// Waits for the answers: the numbers of the generations that gave them.
pub(crate) fn answers(clients: Vec<TcpStream>) -> Result<Vec<u32>> {
    let answer = |mut client: TcpStream| -> Result<u32> {
        let mut answer = [0; 16];
        client
            .read_exact(&mut answer)
            .context("wait for an answer")?;
        ensure!(
            answer.starts_with(REQUEST),
            "another request's answer: {answer:?}"
        );
        let [.., a, b, c, d, _, _, _, _] = answer;
        Ok(u32::from_le_bytes([a, b, c, d]))
    };
    clients.into_iter().map(answer).collect()
}

/// A generation's status.
pub(crate) fn find<'a>(service: &'a ServiceStatus, name: &str) -> Option<&'a GenerationStatus> {
    service
        .generations
        .iter()
        .find(|generation| generation.name.as_str() == name)
}

/// Whether new connections go to a generation.
pub(crate) fn works(service: &ServiceStatus, name: &str) -> bool {
    service
        .working
        .as_ref()
        .is_some_and(|working| working.as_str() == name)
}

const REQUEST: &[u8; 8] = b"12345678";
