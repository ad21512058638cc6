//! The slot table: `MAX_ENDPOINTS` words that each say where an endpoint's slots are, then slots,
//! then what the table is, for the agent that reads it back.

use crate::{MAX_ENDPOINTS, MAX_SLOTS};

/// Words before the first slot: one packed [`Span`] per endpoint.
pub const HEADER_WORDS: u32 = MAX_ENDPOINTS;

/// Words of a slot table; every table has this length, since the kernel compares it with the
/// template of the map of maps (`array_map_meta_equal`, 5.10 and later).
pub const TABLE_WORDS: u32 = HEADER_WORDS + MAX_SLOTS + 2;

/// The word with the number of the generation that the table makes work.
pub const GENERATION_WORD: u32 = TABLE_WORDS - 2;

/// The word with the count of flips that this table belongs to.
pub const EPOCH_WORD: u32 = TABLE_WORDS - 1;

// `Span` packs both of its halves into 16 bits.
const _: () = assert!(TABLE_WORDS <= u16::MAX as u32);

/// Where an endpoint's slots are in the table: words `begin .. begin + count`.
///
/// Packed into one word so that the program reads it with one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of the first slot's word.
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

    /// The word that a connection hash falls on, `attempt` places further for each slot that
    /// turned out to be empty. `count` must not be 0.
    #[inline(always)]
    pub const fn word(self, hash: u32, attempt: u32) -> u32 {
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
    fn a_span_survives_packing() {
        for (begin, count) in [(0, 0), (16, 1), (16, 1024), (1039, 1)] {
            let span = Span { begin, count };
            assert_eq!(Span::unpack(span.pack()), span);
        }
    }

    #[test]
    fn every_attempt_below_count_reaches_another_slot() {
        let span = Span {
            begin: 16,
            count: 5,
        };
        for hash in [0, 1, u32::MAX / 2, u32::MAX] {
            let mut seen = [false; 5];
            for attempt in 0..5 {
                seen[(span.word(hash, attempt) - 16) as usize] = true;
            }
            assert_eq!(seen, [true; 5], "hash {hash}");
        }
    }
}
