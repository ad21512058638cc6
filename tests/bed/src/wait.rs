//! How does a test wait? For an event, with a deadline; in the worst case for a pause.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// A millisecond, for `20 * MS`.
pub const MS: Duration = Duration::from_millis(1);
/// A second.
pub const SECOND: Duration = Duration::from_secs(1);
/// Time for what takes milliseconds, on the slowest machine, and for drains that wait for a
/// retransmission.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until `done` holds, looking every millisecond at first, and more and more rarely later:
/// looking costs what is waited for its time, above all in an emulated machine.
///
/// # Errors
///
/// When `limit` has passed; the message says what was waited for.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        let waited = start.elapsed();
        if waited >= limit {
            bail!("{what}: not within {limit:?}");
        }
        pause((waited / 16).clamp(Duration::from_millis(1), Duration::from_millis(50)));
    }
    Ok(())
}

/// Lets time pass, where the passing of time is what is tested.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a test may sleep"
)]
pub fn pause(length: Duration) {
    thread::sleep(length);
}
