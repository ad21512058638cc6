//! What is pending on one listener.

/// What is pending on a listener, as an iterator shows it or its line in `/proc/net/tcp{,6}`.
///
/// Every request, half-open, queued, or TCP Fast Open, holds one reference on its listener from
/// the SYN until it is accepted or ends (`inet_reqsk_alloc`, [`reqsk_put`]; 4.4 and later), so the
/// count says exactly how many there are. Short-lived other holders only ever raise it.
///
/// A connection made from a SYN cookie was never a request, and is queued without a reference
/// ([`cookie_tcp_reqsk_alloc`], 5.10 to 7.3); it is in the queue's length. It comes into being in one
/// step, so it is never half-open.
///
/// [`reqsk_put`]: https://elixir.bootlin.com/linux/v6.12/source/include/net/request_sock.h
/// [`cookie_tcp_reqsk_alloc`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/syncookies.c
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
}
