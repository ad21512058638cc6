//! What does a client see? Every connection is followed to its end and counted once.
//!
//! A connection is one request: connect, send eight random bytes, read them back
//! with the generation of the server that answered, and close with a reset, so
//! that no TIME_WAIT holds the port. [`Outcome`] has one variant for every way
//! this can end; what is the fault of the generator itself is none of them and
//! fails the run.

mod clock;
mod connection;
mod engine;
mod outcome;
mod report;
mod samples;

use std::{net::SocketAddr, path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use anyhow::Result;

pub use clock::monotonic_us;
pub use outcome::Outcome;
pub use report::{Latency, LocalErrors, Loss, Progress, Report};
pub use samples::{Sample, each as each_sample, read as read_samples};

/// What load to make.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to connect, in turn.
    pub connect: Vec<SocketAddr>,
    /// When to connect.
    pub mode: Mode,
    /// For how long new connections are opened.
    pub duration: Duration,
    /// How long one connection may take, from connecting to the last byte.
    pub timeout: Duration,
    /// Seed of the request ids and the arrival times.
    pub seed: u64,
    /// Where to write one [`Sample`] per connection.
    pub samples: Option<PathBuf>,
}

/// When a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// As soon as one of so many clients is free.
    Closed {
        /// Connections in flight at all times.
        clients: usize,
    },
    /// At random times, whatever became of the earlier ones.
    Open {
        /// Mean connections per second.
        rate: f64,
        /// Arrivals beyond so many in flight are counted as overrun instead.
        max_in_flight: usize,
    },
}

impl Config {
    /// A closed loop of `clients` against one address, with common defaults.
    #[must_use]
    pub fn closed(connect: SocketAddr, clients: usize, duration: Duration) -> Self {
        Self {
            connect: vec![connect],
            mode: Mode::Closed { clients },
            duration,
            timeout: Duration::from_secs(5),
            seed: 1,
            samples: None,
        }
    }
}

/// Makes load from the calling thread, and its namespace, until the time is
/// over or `stop` is set; then follows what is in flight to its end.
///
/// # Errors
///
/// When the configuration makes no sense or the samples cannot be written.
/// Connections that could not be opened are in [`Report::local_errors`].
pub fn run(config: &Config, stop: &AtomicBool) -> Result<Report> {
    run_with(config, stop, |_| Ok(()))
}

/// As [`run`], and calls `progress` about five times a second.
///
/// # Errors
///
/// As [`run`], and those of `progress`, which end the run.
pub fn run_with(
    config: &Config,
    stop: &AtomicBool,
    progress: impl FnMut(&Progress) -> Result<()>,
) -> Result<Report> {
    engine::Engine::new(config)?.run(stop, progress)
}
