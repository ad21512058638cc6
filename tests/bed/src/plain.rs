//! What happens without synflip? The server which must lose connections.
//!
//! It restarts as servers with SO_REUSEPORT do: the new generation listens
//! beside the old one, then the old one closes its listeners and finishes what
//! it has accepted. Handshakes in flight and the accept queue die with them.

use std::net::SocketAddr;

use anyhow::Result;
use rustix::process::Signal;

use crate::{
    Netns,
    product::{Generation, Spec},
    wait::SOON,
};

/// A running server: `synflip-server --plain`.
#[derive(Debug)]
pub struct Server(Generation);

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections answered.
    pub answered: u64,
}

impl Server {
    /// Listens in `netns` with `listeners` sockets.
    ///
    /// # Errors
    ///
    /// When a listener cannot be made.
    pub fn start(netns: &Netns, at: SocketAddr, listeners: usize, generation: u32) -> Result<Self> {
        let spec = Spec::new(generation, at, listeners);
        Generation::start_plain(netns, &spec).map(Self)
    }

    /// Closes the listeners at once and finishes the accepted connections.
    ///
    /// # Errors
    ///
    /// When the server has failed before.
    pub fn stop(self) -> Result<Served> {
        self.0.signal(Signal::TERM)?;
        let exit = self.0.wait_exit(SOON)?;
        Ok(Served {
            accepted: exit.accepted,
            answered: exit.served,
        })
    }
}
