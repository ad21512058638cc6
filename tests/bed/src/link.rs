//! How do two namespaces get a distance between them?
//!
//! Without a round-trip time there are no handshakes in flight, and a restart
//! which loses them looks perfect. Not every kernel under test has netem (see
//! [`crate::veth`]), so the delay line is a pair of threads between two TUN
//! interfaces.

mod line;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::event::{EventfdFlags, eventfd};

use crate::{Family, Netns, Tun, first};
pub use line::Direction;
use line::{Counts, Line};

/// The client's address on a link.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The server's address on a link.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The client's IPv6 address on a link.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The server's IPv6 address on a link.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// The client's address on a link, by family.
#[must_use]
pub const fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(CLIENT_V4),
        Family::V6 => IpAddr::V6(CLIENT_V6),
    }
}

/// The server's address on a link, by family.
#[must_use]
pub const fn server(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(SERVER_V4),
        Family::V6 => IpAddr::V6(SERVER_V6),
    }
}

/// What a link does to packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delay {
    /// Round-trip time; each direction holds a packet for half of it.
    pub rtt: Duration,
    /// Probability that a packet is dropped, in each direction.
    pub loss: f64,
    /// Seed of the choice which packets are dropped.
    pub seed: u64,
}

impl Delay {
    /// A link that only delays.
    #[must_use]
    pub fn of(rtt: Duration) -> Self {
        Self {
            rtt,
            ..Self::default()
        }
    }
}

/// What became of the packets of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets from the client to the server.
    pub to_server: Direction,
    /// Packets from the server to the client.
    pub to_client: Direction,
}

/// Two namespaces joined by a wire of a given length; dropping it cuts the wire.
#[derive(Debug)]
pub struct Link {
    stop: Arc<OwnedFd>,
    counts: [Arc<Counts>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    /// Joins two namespaces, with the addresses of this module at the ends.
    ///
    /// # Errors
    ///
    /// When an interface cannot be made, or `loss` is no probability.
    pub fn join(client: &Netns, server: &Netns, delay: Delay) -> Result<Self> {
        ensure!(
            (0.0..=1.0).contains(&delay.loss),
            "loss {} is no probability",
            delay.loss
        );
        let near = Arc::new(Tun::open(client, (CLIENT_V4, 24), (CLIENT_V6, 64))?);
        let far = Arc::new(Tun::open(server, (SERVER_V4, 24), (SERVER_V6, 64))?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?);
        let mut link = Self {
            stop,
            counts: Default::default(),
            threads: Vec::new(),
        };
        let lines = [("to-server", &near, &far), ("to-client", &far, &near)];
        for ((name, from, to), (counts, salt)) in lines.into_iter().zip(link.counts.iter().zip(0..))
        {
            let line = Line::new(
                Arc::clone(from),
                Arc::clone(to),
                delay,
                salt,
                Arc::clone(counts),
            );
            let stop = Arc::clone(&link.stop);
            let thread = thread::Builder::new().name(name.into());
            let thread = first(|| thread.spawn(move || line.run(&stop)));
            link.threads
                .push(thread.with_context(|| format!("start the thread {name}"))?);
        }
        Ok(link)
    }

    /// Counts the packets so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let [to_server, to_client] = self.counts.each_ref().map(|counts| counts.read());
        Stats {
            to_server,
            to_client,
        }
    }

    fn join_threads(&mut self) -> Result<()> {
        rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).context("stop the link")?;
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                result = Err(anyhow!("a thread of the link has panicked"));
            }
        }
        result
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A panic of a line has already been printed where it happened.
        drop(self.join_threads());
    }
}
