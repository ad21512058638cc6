//! What does not change while a service lives.

use synflip_abi::MAX_SLOTS;

use crate::Pace;

/// What an operator has chosen, and what the kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// How long the listeners of an endpoint that nobody accepts at are held open for a successor,
    /// in milliseconds.
    pub hold: u64,
    /// Whether the kernel moves what is queued on a listener when its last descriptor is closed,
    /// and wakes whom it comes to.
    pub migrates: bool,
    /// Whether the first listener of a hash bucket stays open. Only a test that shows why turns
    /// this off.
    pub tombstones: bool,
    /// Slots of its socket array: fewer than is usual if an earlier version has made it.
    pub slots: u32,
    /// Most generations at one time, those included that are still closing.
    pub generations: usize,
    /// Between two looks at a drain.
    pub drain: Pace,
    /// Between two looks at listeners that cannot be closed yet.
    pub closing: Pace,
    /// Between two tries to publish a table that the kernel has refused.
    pub publish: Pace,
    /// Between two looks at listeners whose processes have not come back.
    pub absent: Pace,
    /// Between two looks at listeners that nobody accepts from.
    pub stuck: Pace,
    /// How long processes that live are expected to come back to a new agent, in milliseconds: the
    /// helper tries every 2 s at least.
    pub returns: u64,
}

impl Default for Rules {
    fn default() -> Self {
        let pace = |first, longest| Pace { first, longest };
        Self {
            hold: 30_000,
            migrates: false,
            tombstones: true,
            slots: MAX_SLOTS,
            generations: 64,
            // The first finds what ends by itself within a round trip; the longest is what a drain
            // that waits for a retransmission costs.
            drain: pace(2, 100),
            closing: pace(10, 250),
            publish: pace(100, 5_000),
            absent: pace(1_000, 5_000),
            stuck: pace(500, 5_000),
            returns: 10_000,
        }
    }
}
