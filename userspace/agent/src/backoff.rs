//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// A wait that doubles with each failure.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// It has failed once more; returns how long to wait.
    pub(crate) fn failed(&mut self) -> Duration {
        let now = self.next;
        self.next = LONGEST.min(now * 2);
        now
    }

    /// Whether it has failed before, and not succeeded since.
    pub(crate) fn is_failing(&self) -> bool {
        self.next != FIRST
    }

    /// It has succeeded.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_until_it_succeeds() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_failing());
        let waits: Vec<u128> = (0..11).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[9..], [30_000, 30_000]);
        assert!(backoff.is_failing());
        backoff.succeeded();
        assert_eq!(backoff.failed(), FIRST);
    }
}
