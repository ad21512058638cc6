//! The way from the clients to the servers, and the load on it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use synflip_bed::{
    Delay, Link, Netem, Netns,
    load::{self, Config, Report},
    veth,
};

use super::Campaign;

/// Two namespaces, the link between them, and a file for what the clients see.
pub(crate) struct Road {
    _link: Option<Link>,
    pub(super) client: Netns,
    pub(crate) server: Netns,
    dir: tempfile::TempDir,
}

impl Road {
    pub(crate) fn new(delay: Delay, netem: Option<Netem>) -> Result<Self> {
        let (client, server) = (Netns::new()?, Netns::new()?);
        let link = match netem {
            Some(netem) => {
                veth::join(&client, &server, Some(netem))?;
                None
            }
            None => Some(Link::join(&client, &server, delay)?),
        };
        Ok(Self {
            _link: link,
            client,
            server,
            dir: tempfile::tempdir()?,
        })
    }

    /// Makes load for as long as `f` takes.
    pub(crate) fn load<T>(
        &self,
        campaign: &Campaign,
        seed: u64,
        f: impl FnOnce() -> Result<T>,
    ) -> Result<(Report, T)> {
        let config = Config {
            connect: campaign.connect.clone(),
            timeout: campaign.timeout,
            seed,
            samples: Some(self.file()),
            ..Config::closed(campaign.connect[0], campaign.clients, HOUR)
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| self.client.run(|| load::run(&config, &stop)));
            let result = f();
            stop.store(true, Relaxed);
            let report = load
                .join()
                .map_err(|_panic| anyhow!("the load has panicked"))??;
            let result = result.with_context(|| format!("{report:?}"))?;
            ensure!(report.local_errors.count == 0, "{report:?}");
            Ok((report, result))
        })
    }

    pub(super) fn samples(&self) -> Result<Vec<load::Sample>> {
        load::read_samples(&self.file())
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("samples")
    }
}

const HOUR: Duration = Duration::from_secs(3600);
