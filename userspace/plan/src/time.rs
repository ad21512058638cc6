//! Time as the machine is told of it, and when something is tried again.

use std::ops::{Add, Sub};

/// A moment: milliseconds since the agent started. The machine never looks at a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The same moment, told by a clock that shows `by` less.
    pub(crate) fn set_back(self, by: u64) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

impl Add<u64> for Moment {
    type Output = Self;

    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub for Moment {
    type Output = u64;

    /// Milliseconds between the two; 0 if `other` is later.
    fn sub(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// The first and the longest pause between two tries, in milliseconds. Each is half as long again
/// as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// The first pause.
    pub first: u64,
    /// The longest.
    pub longest: u64,
}

/// When something that has not succeeded yet is tried next: the one backoff of all that is
/// repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// The next try.
    pub due: Moment,
    pause: u64,
}

impl Retry {
    /// Tries at once.
    pub fn now(now: Moment) -> Self {
        Self { due: now, pause: 0 }
    }

    /// Tries again after a pause that is longer than the one before.
    pub fn later(&mut self, now: Moment, pace: Pace) {
        let longer = (self.pause * 3).div_ceil(2);
        self.pause = longer.clamp(pace.first, pace.longest);
        self.due = now + self.pause;
    }

    /// Tries at once, and then at the pace of the beginning: something has happened.
    pub fn soon(&mut self, now: Moment) {
        *self = Self::now(now);
    }

    /// Whether it is time.
    pub fn is_due(self, now: Moment) -> bool {
        self.due <= now
    }

    /// The same, told by a clock that shows `by` less. That it has been due for long means nothing.
    pub(crate) fn set_back(&mut self, by: u64, now: Moment) {
        self.due = self.due.max(now).set_back(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let pace = Pace {
            first: 2,
            longest: 10,
        };
        let mut retry = Retry::now(Moment(100));
        assert!(retry.is_due(Moment(100)));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let now = retry.due;
            retry.later(now, pace);
            pauses.push(retry.due - now);
        }
        assert_eq!(pauses, [2, 3, 5, 8, 10, 10]);
        retry.soon(Moment(200));
        assert!(retry.is_due(Moment(200)));
    }
}
