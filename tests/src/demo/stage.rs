//! Where does a run take place?

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{options::Settings, priority};
use crate::{Delay, Link, Netns, link};

/// Two namespaces, the wire between them, and a directory for files.
pub(super) struct Stage {
    // First the wire is cut, then the namespaces go.
    _link: Link,
    pub(super) client: Netns,
    pub(super) server: Netns,
    pub(super) dir: TempDir,
}

impl Stage {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let (client, server) = (Netns::new()?, Netns::new()?);
        let delay = Delay {
            rtt: settings.rtt,
            loss: settings.loss,
            seed: settings.seed,
        };
        Ok(Self {
            _link: priority::first(|| Link::join(&client, &server, delay))?,
            client,
            server,
            dir: tempfile::tempdir().context("make a directory for the run's files")?,
        })
    }

    /// Where the service is.
    pub(super) fn address(&self) -> SocketAddr {
        (link::SERVER_V4, PORT).into()
    }
}

const PORT: u16 = 8080;
