//! Where does a service meet its clients?

mod load;
mod priority;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use synflip_bed::{Delay, Link, Netns, link};

pub(crate) use load::Load;
pub(crate) use priority::first;

/// Two namespaces, the wire between them, and a directory for files.
pub(crate) struct Stage {
    // First the wire is cut, then the namespaces go.
    _link: Link,
    pub(crate) client: Netns,
    pub(crate) server: Netns,
    pub(crate) dir: TempDir,
}

impl Stage {
    pub(crate) fn new(delay: Delay) -> Result<Self> {
        let (client, server) = (Netns::new()?, Netns::new()?);
        Ok(Self {
            _link: first(|| Link::join(&client, &server, delay))?,
            client,
            server,
            dir: tempfile::tempdir().context("make a directory for the run's files")?,
        })
    }

    /// Where the service is.
    pub(crate) fn address(&self) -> SocketAddr {
        (link::SERVER_V4, PORT).into()
    }
}

const PORT: u16 = 8080;
