//! How does a run end early and still leave nothing behind?
//!
//! The signal only sets a flag. The main thread looks at it wherever it waits, and returns: the
//! destructors end the processes, remove the pins and let go of the namespaces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use synflip_bed::wait::{self, MS};

/// Whether somebody wants this process to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    pub(crate) fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("make a runtime for signals")?;
        let flag = Arc::new(AtomicU8::new(0));
        let (installed, ready) = mpsc::channel();
        let seen = Arc::clone(&flag);
        thread::spawn(move || {
            runtime.block_on(async {
                let catch = || -> std::io::Result<_> {
                    Ok([
                        signal(SignalKind::interrupt())?,
                        signal(SignalKind::terminate())?,
                        signal(SignalKind::hangup())?,
                    ])
                };
                let [mut interrupt, mut terminate, mut hangup] = match catch() {
                    Ok(signals) => {
                        drop(installed.send(Ok(())));
                        signals
                    }
                    Err(error) => return drop(installed.send(Err(error))),
                };
                loop {
                    let number = tokio::select! {
                        _ = interrupt.recv() => 2,
                        _ = terminate.recv() => 15,
                        _ = hangup.recv() => 1,
                    };
                    seen.store(number, SeqCst);
                }
            });
        });
        ready
            .recv()
            .context("the thread for signals has ended")?
            .context("catch signals")?;
        Ok(Self(flag))
    }

    fn signal(&self) -> Option<u8> {
        match self.0.load(SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Fails once a signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(signal) => Err(Failure::Interrupted(signal).into()),
        }
    }

    /// Waits until `done` holds; fails at once if it fails, or somebody wants the process to end.
    pub(crate) fn until(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let mut failure = Ok(());
        wait::until(what, limit, || {
            let looked = self.check().and_then(|()| done());
            looked.unwrap_or_else(|error| {
                failure = Err(error);
                true
            })
        })?;
        failure
    }

    /// Says that it was the interrupt, if a child has failed of the same Ctrl-C first.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let seen = || self.signal().is_some();
        drop(wait::until("a signal", 100 * MS, seen));
        self.check().err().unwrap_or(error)
    }
}
