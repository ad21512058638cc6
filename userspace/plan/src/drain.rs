//! When a drain is over, and how it went.

/// What is pending on a listener, from its line in `/proc/net/tcp{,6}`.
///
/// Every request, half-open, queued, or TCP Fast Open, holds one reference on its listener from
/// the SYN until it is accepted or ends (`inet_reqsk_alloc`, `reqsk_put`; 4.4 and later), so the
/// count says exactly how many there are. Short-lived other holders only ever raise it.
///
/// A connection made from a SYN cookie was never a request, and is queued without a reference
/// (`cookie_tcp_reqsk_alloc`); it is in the queue's length. It comes into being in one step, so it
/// is never half-open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// References on the listener; 1 is its own.
    pub refcnt: u32,
    /// Its accept queue's length (`sk_ack_backlog`).
    pub queued: u32,
}

impl Pending {
    /// Whether nothing at all is pending.
    pub const fn is_empty(self) -> bool {
        self.refcnt == 1 && self.queued == 0
    }

    /// Handshakes that have begun and not ended.
    pub const fn half_open(self) -> u32 {
        self.refcnt.saturating_sub(1).saturating_sub(self.queued)
    }
}

/// The readings of one listener's drain: each that differed from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    steps: Vec<(u64, Pending)>,
    empty_after_ms: Option<u64>,
}

impl Steps {
    /// Readings kept: the first ones, and always the last.
    pub const KEPT: usize = 12;

    /// Adds a reading, `after_ms` milliseconds after the commit.
    pub fn push(&mut self, after_ms: u64, pending: Pending) {
        if pending.is_empty() {
            self.empty_after_ms.get_or_insert(after_ms);
        } else {
            self.empty_after_ms = None;
        }
        let same = |last: &(u64, Pending)| {
            last.1.queued == pending.queued && last.1.half_open() == pending.half_open()
        };
        if self.steps.last().is_some_and(same) {
            return;
        }
        if self.steps.len() == Self::KEPT {
            self.steps.pop();
        }
        self.steps.push((after_ms, pending));
    }

    /// The readings kept: milliseconds after the commit, and what was pending.
    pub fn readings(&self) -> &[(u64, Pending)] {
        &self.steps
    }

    /// Since when nothing is pending. After a commit nothing new can arrive, unless a member of
    /// the reuseport group takes the program away: then it is not final.
    pub const fn empty_after_ms(&self) -> Option<u64> {
        self.empty_after_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(refcnt: u32, queued: u32) -> Pending {
        Pending { refcnt, queued }
    }

    #[test]
    fn a_count_of_one_is_empty_and_nothing_else_is() {
        assert!(pending(1, 0).is_empty());
        // A queue that is read a moment after the count must not make it look drained.
        assert!(!pending(2, 0).is_empty());
        // Made from a cookie.
        assert!(!pending(1, 1).is_empty());
        assert_eq!(pending(6, 2).half_open(), 3);
        assert_eq!(pending(1, 1).half_open(), 0);
    }

    #[test]
    fn steps_keep_changes_the_first_and_the_last() {
        let mut steps = Steps::default();
        for (at, refcnt) in [(0, 40), (1, 40), (2, 39)] {
            steps.push(at, pending(refcnt, 0));
        }
        assert_eq!(steps.readings(), [(0, pending(40, 0)), (2, pending(39, 0))]);
        for (at, refcnt) in (3..).zip((1..39).rev()) {
            steps.push(at, pending(refcnt, 0));
        }
        assert_eq!(steps.readings().len(), Steps::KEPT);
        assert_eq!(steps.readings().last(), Some(&(40, pending(1, 0))));
        assert_eq!(steps.empty_after_ms(), Some(40));
    }

    #[test]
    fn what_comes_again_makes_it_not_empty() {
        let mut steps = Steps::default();
        for (at, refcnt, empty) in [
            (0, 2, None),
            (5, 1, Some(5)),
            (9, 1, Some(5)),
            (12, 3, None),
        ] {
            steps.push(at, pending(refcnt, 0));
            assert_eq!(steps.empty_after_ms(), empty, "at {at}");
        }
        steps.push(20, pending(1, 0));
        assert_eq!(steps.empty_after_ms(), Some(20));
    }
}
