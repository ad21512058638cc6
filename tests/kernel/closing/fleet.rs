//! A generation without a process of its own: hundreds of them take no time.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use synflip::{Events, Listener, Mode, Server};
use synflip_bed::{Fixture, wait::SOON};

/// Listeners that nobody accepts from, because no handshake is ever complete.
pub(super) struct Fleet {
    pub(super) name: String,
    server: Server,
    listeners: Vec<Listener>,
    events: Events,
}

impl Fleet {
    pub(super) fn start(
        fixture: &Fixture,
        number: usize,
        address: SocketAddr,
        listeners: usize,
    ) -> Result<Self> {
        let name = format!("gen{number}");
        let builder = Server::builder("web")
            .generation(&name)
            .socket(fixture.agent.socket())
            .mode(Mode::Required)
            .listen(address, listeners);
        let server = fixture
            .net
            .server
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
    pub(super) fn finish(mut self) -> Result<String> {
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
