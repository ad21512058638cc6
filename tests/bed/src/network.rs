//! Where does a service meet its clients? Two hosts and what is between them.

mod clients;
mod fast_open;
mod listen;
mod load;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result};

use crate::{
    Delay, Family, Link, Netem, Netns, link,
    product::{Generation, Spec},
    raw::{self, RawClient},
    veth,
};

pub use clients::{REQUEST, answered, answers, complete, generation_of, receive};
pub use fast_open::{FAST_OPEN, cookie, fast_open};
pub use listen::listen;
pub use load::{Load, Samples};

/// What is between the clients and the servers.
#[derive(Clone, Copy, Debug, Default)]
pub enum Line {
    /// Nothing: both are on one host, and talk over its loopback.
    #[default]
    Loopback,
    /// A wire whose other end is this process: clients made of single segments, which stop
    /// wherever a test wants. The kernel's own clients connect from the server's host.
    Raw,
    /// A delay line, with loss.
    Link(Delay),
    /// A line of the kernel's own, which netem may make a bad one.
    Veth(Option<Netem>),
}

/// The hosts of clients and servers, which may be one.
#[derive(Debug)]
pub struct Network {
    // First the wire is cut, then the hosts go.
    link: Option<Link>,
    raw: Option<RawClient>,
    /// Where the kernel's own clients are.
    pub client: Arc<Netns>,
    /// Where the servers are.
    pub server: Arc<Netns>,
    /// The IP version of [`Self::address`].
    pub family: Family,
    /// Where every generation listens.
    pub address: SocketAddr,
    last_client: AtomicU16,
}

impl Network {
    /// Makes the hosts, and joins them.
    ///
    /// # Errors
    ///
    /// When this process may not, or the line cannot be made.
    pub fn new(family: Family, line: Line) -> Result<Self> {
        let server = Arc::new(Netns::new()?);
        let mut network = Self {
            link: None,
            raw: None,
            client: Arc::clone(&server),
            server,
            family,
            address: (link::server(family), PORT).into(),
            last_client: AtomicU16::new(1),
        };
        match line {
            Line::Loopback => network.address = (family.loopback(), PORT).into(),
            Line::Raw => {
                network.raw = Some(RawClient::new(&network.server)?);
                network.address = (raw::server(family), PORT).into();
            }
            Line::Link(delay) => {
                network.client = Arc::new(Netns::new()?);
                network.link = Some(Link::join(&network.client, &network.server, delay)?);
            }
            Line::Veth(netem) => {
                network.client = Arc::new(Netns::new()?);
                veth::join(&network.client, &network.server, netem)?;
            }
        }
        Ok(network)
    }

    /// The machine's own loopback, for servers that a test does not start itself.
    ///
    /// # Errors
    ///
    /// When this process may not enter its own namespace.
    pub fn of_the_machine() -> Result<Self> {
        let host = Arc::new(Netns::current()?);
        Ok(Self {
            link: None,
            raw: None,
            client: Arc::clone(&host),
            server: host,
            family: Family::V4,
            address: (Family::V4.loopback(), PORT).into(),
            last_client: AtomicU16::new(1),
        })
    }

    /// How generation `number` runs, with so many listeners.
    pub fn spec(&self, number: u32, listeners: usize) -> Spec {
        Spec::new(number, self.address, listeners)
    }

    /// Starts a server that does without synflip: plain SO_REUSEPORT.
    ///
    /// # Errors
    ///
    /// When it is not ready in time.
    pub fn plain(&self, spec: &Spec) -> Result<Generation> {
        Generation::start_plain(&self.server, spec)
    }

    /// The client made of single segments.
    ///
    /// # Errors
    ///
    /// When the line is not [`Line::Raw`].
    pub fn raw(&self) -> Result<&RawClient> {
        self.raw.as_ref().context("this line has no raw client")
    }

    /// The delay line, which counts.
    ///
    /// # Errors
    ///
    /// When the line is not [`Line::Link`].
    pub fn link(&self) -> Result<&Link> {
        self.link.as_ref().context("this line has no delay")
    }

    /// An address that no raw client has had, and a port.
    pub fn fresh(&self) -> SocketAddr {
        let number = self.last_client.fetch_add(1, Relaxed) + 1;
        raw::client(self.family, number, 5000 + number)
    }
}

const PORT: u16 = 4000;
