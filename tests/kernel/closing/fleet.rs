//! A generation without a process of its own: hundreds of them take no time.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use synflip::{Events, Listener, Mode, Server};
use synflip_bed::{Netns, product::Agent};

/// Listeners that nobody accepts from, because no handshake is ever complete.
pub(crate) struct Fleet {
    pub(crate) name: String,
    server: Server,
    listeners: Vec<Listener>,
    events: Events,
}

impl Fleet {
    pub(crate) fn start(
        netns: &Netns,
        agent: &Agent,
        name: String,
        address: SocketAddr,
        listeners: usize,
    ) -> Result<Self> {
        let builder = Server::builder("web")
            .generation(&name)
            .socket(agent.socket())
            .mode(Mode::Required)
            .listen(address, listeners);
        let server = netns
            .run(|| builder.start())
            .with_context(|| format!("start {name}"))?;
        let listeners = server.listeners();
        let events = server.events();
        server.ready()?;
        Ok(Self {
            name,
            server,
            listeners,
            events,
        })
    }

    /// Waits until the generation is over, closes its listeners and tells the agent.
    pub(crate) fn finish(mut self) -> Result<String> {
        while !self.server.phase().is_last() {
            self.events
                .recv_timeout(SOON)
                .with_context(|| format!("{} is told to close", self.name))?;
        }
        drop(self.listeners);
        self.server.join();
        Ok(self.name)
    }
}

const SOON: Duration = Duration::from_secs(60);
