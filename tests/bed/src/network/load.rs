//! Clients that connect over and over again, while the test does something else.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use super::Network;
use crate::{
    load::{self, Config, Mode, Report, Sample},
    wait::{self, SOON},
};

/// Clients that connect over and over again, until they are told to finish.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    ok: Arc<AtomicU64>,
    thread: JoinHandle<Result<Report>>,
}

impl Network {
    /// Starts `clients` of the kernel's own clients; each connects as soon as it has been
    /// answered.
    pub fn load(&self, clients: usize) -> Load {
        self.load_in(Mode::Closed { clients })
    }

    /// Starts clients that connect in another way.
    pub fn load_in(&self, mode: Mode) -> Load {
        self.load_with(Config {
            timeout: SOON,
            mode,
            ..Config::closed(self.address, 1, HOUR)
        })
    }

    /// Starts clients that are configured otherwise.
    pub fn load_with(&self, config: Config) -> Load {
        let (stop, ok) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (netns, stopped, counted) = (Arc::clone(&self.client), stop.clone(), ok.clone());
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

impl Load {
    /// Waits until so many more connections have been answered.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn more(&self, count: u64) -> Result<()> {
        let goal = self.ok.load(Relaxed) + count;
        wait::until("the load goes on", SOON, || {
            self.ok.load(Relaxed) >= goal || self.thread.is_finished()
        })?;
        ensure!(!self.thread.is_finished(), "the load has failed");
        Ok(())
    }

    /// Opens no more connections, follows the open ones to their end.
    ///
    /// # Errors
    ///
    /// When the generator itself has failed, or could not open connections.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Relaxed);
        let report = self
            .thread
            .join()
            .map_err(|_panic| anyhow!("the load has panicked"))??;
        ensure!(report.local_errors.count == 0, "{report:?}");
        Ok(report)
    }

    /// As [`Self::finish`], and every connection must have been answered.
    ///
    /// # Errors
    ///
    /// When one was lost.
    pub fn finish_unharmed(self) -> Result<Report> {
        let report = self.finish()?;
        ensure!(report.lost == 0 && report.ok > 0, "{report:?}");
        Ok(report)
    }
}

/// A file for what became of each connection of a load.
#[derive(Debug)]
pub struct Samples(TempDir);

impl Samples {
    /// Makes room for it.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new() -> Result<Self> {
        Ok(Self(
            tempfile::tempdir().context("make a directory for samples")?,
        ))
    }

    /// Where the load is to write: [`Config::samples`].
    pub fn file(&self) -> PathBuf {
        self.0.path().join("samples")
    }

    /// What it has written.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&self) -> Result<Vec<Sample>> {
        load::read_samples(&self.file())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
