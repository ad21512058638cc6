//! How does a test wait? For an event, with a deadline; in the worst case for a pause.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Waits until `done` holds, looking every millisecond.
///
/// # Errors
///
/// When `limit` has passed; the message says what was waited for.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        pause(Duration::from_millis(1));
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
