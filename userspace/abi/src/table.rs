//! The slot table: for each endpoint the shares that new connections are spread over, what the
//! table is, and then the slots.
//!
//! Entries of four words. The program reads one to find an endpoint's share and one for the slot;
//! what else is in them is for the agent that reads the table back, and costs the program nothing.

use crate::{MAX_ENDPOINTS, MAX_SLOTS};

/// One entry of a slot table.
pub type TableEntry = [u32; ENTRY_WORDS];

/// Words of an entry.
pub const ENTRY_WORDS: usize = 4;

/// Shares that an endpoint's connections can be divided into. Share `n` of endpoint `e` is in
/// entry `n * MAX_ENDPOINTS + e`.
pub const MAX_SHARES: u32 = 4;

/// The entry that says what the table is: the number of the generation that it makes work, and
/// the low and the high half of the count of flips that it belongs to.
pub const META: u32 = MAX_ENDPOINTS * MAX_SHARES;

/// The first entry that can be a [`SlotEntry`].
pub const FIRST_SLOT: u32 = META + 1;

/// Entries of a slot table; every table has this many, since the kernel compares it with the
/// template of the map of maps (`array_map_meta_equal`, 5.10 and later).
pub const TABLE_ENTRIES: u32 = FIRST_SLOT + MAX_SLOTS;

// `Span` packs both of its halves into 16 bits.
const _: () = assert!(TABLE_ENTRIES <= u16::MAX as u32);

/// [`Share::until`] of a share that has all of an endpoint's connections, or the last of them.
pub const WHOLE: u32 = u32::MAX;

/// A generation's share of an endpoint's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where its slots are.
    pub span: Span,
    /// The last [`Self::point`] that is its own. The first share whose bound a connection's point
    /// does not exceed has it.
    pub until: u32,
    /// The number of its generation.
    pub generation: u32,
}

impl Share {
    /// Index in an entry of the packed span.
    pub const SPAN: usize = 0;
    /// Index in an entry of the bound.
    pub const UNTIL: usize = 1;
    /// Index in an entry of the generation's number.
    pub const GENERATION: usize = 2;

    /// The entry that is stored in the table.
    pub const fn pack(self) -> TableEntry {
        [self.span.pack(), self.until, self.generation, 0]
    }

    /// Reads a share back; its span's count is 0 if there is none.
    pub const fn unpack(entry: TableEntry) -> Self {
        Self {
            span: Span::unpack(entry[Self::SPAN]),
            until: entry[Self::UNTIL],
            generation: entry[Self::GENERATION],
        }
    }

    /// Which entry an endpoint's share is in.
    #[inline(always)]
    pub const fn entry(endpoint: u32, share: u32) -> u32 {
        share * MAX_ENDPOINTS + endpoint
    }

    /// What decides which share a connection falls into.
    ///
    /// Another function of its hash than the one that decides which of a share's slots it falls
    /// on: otherwise a small share's connections would all fall on the first of its slots.
    #[inline(always)]
    pub const fn point(hash: u32) -> u32 {
        hash.rotate_left(16).wrapping_mul(0x9e37_79b1)
    }
}

/// A slot of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// The slot.
    pub slot: u32,
    /// The socket cookie of the listener that is meant by it; 0 if it was not said.
    pub cookie: u64,
}

impl SlotEntry {
    /// Index in an entry of the slot.
    pub const SLOT: usize = 0;

    /// The entry that is stored in the table.
    pub const fn pack(self) -> TableEntry {
        let (high, low) = (
            (self.cookie >> 32) as u32,
            (self.cookie & 0xffff_ffff) as u32,
        );
        [self.slot, low, high, 0]
    }

    /// Reads an entry back.
    pub const fn unpack(entry: TableEntry) -> Self {
        Self {
            slot: entry[Self::SLOT],
            cookie: (entry[2] as u64) << 32 | entry[1] as u64,
        }
    }
}

/// Where a share's slots are in the table: entries `begin .. begin + count`.
///
/// Packed into one word, which is 0 if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of the first slot's entry.
    pub begin: u32,
    /// Number of slots; 0 if the endpoint has none.
    pub count: u32,
}

impl Span {
    /// Packs the span into the word stored in the table.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        (self.begin << 16) | (self.count & 0xffff)
    }

    /// Reads a span back from its word.
    #[inline(always)]
    pub const fn unpack(word: u32) -> Self {
        Self {
            begin: word >> 16,
            count: word & 0xffff,
        }
    }

    /// The entry that a connection hash falls on, `attempt` places further for each slot that
    /// turned out to be empty. `count` must not be 0.
    #[inline(always)]
    pub const fn entry(self, hash: u32, attempt: u32) -> u32 {
        let at = ((hash as u64 * self.count as u64) >> 32) as u32 + attempt;
        // `attempt` may exceed `count`: it wraps as often as it needs to, without a division.
        self.begin
            + if at >= self.count {
                at - self.count
            } else {
                at
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_packing() {
        for (begin, count) in [(0, 0), (65, 1), (65, 4096), (4160, 1)] {
            let span = Span { begin, count };
            assert_eq!(Span::unpack(span.pack()), span);
            let share = Share {
                span,
                until: WHOLE - 1,
                generation: 7,
            };
            assert_eq!(Share::unpack(share.pack()), share);
        }
        for cookie in [0, 1, u64::MAX - 1, 1 << 32] {
            let entry = SlotEntry { slot: 4095, cookie };
            assert_eq!(SlotEntry::unpack(entry.pack()), entry);
        }
    }

    #[test]
    fn every_attempt_below_count_reaches_another_slot() {
        let span = Span {
            begin: FIRST_SLOT,
            count: 5,
        };
        for hash in [0, 1, u32::MAX / 2, u32::MAX] {
            let mut seen = [false; 5];
            for attempt in 0..5 {
                seen[(span.entry(hash, attempt) - FIRST_SLOT) as usize] = true;
            }
            assert_eq!(seen, [true; 5], "hash {hash}");
        }
    }

    /// The connections of a share of 1 % fall on all of its slots alike, and their number is that.
    #[test]
    fn share_and_slot_are_independent() {
        let (mut slots, mut hash) = ([0; 8], 1_u32);
        let span = Span { begin: 0, count: 8 };
        let connections = 800_000;
        for _ in 0..connections {
            hash ^= hash << 13;
            hash ^= hash >> 17;
            hash ^= hash << 5;
            if Share::point(hash) <= WHOLE / 100 {
                slots[span.entry(hash, 0) as usize] += 1;
            }
        }
        for slot in slots {
            assert!((800..1200).contains(&slot), "{slots:?}");
        }
    }
}
