//! What happened to a service, for the agent that comes after.

use crate::Member;

/// One entry of the `TIMELINE` map, which is a ring: the event with number `n` is in entry
/// `n % MAX_MOMENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of the event among those of its service, from 1.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The name of the generation that it happened to, padded with zeros.
    pub generation: [u8; Member::NAME_BYTES],
    /// What happened, padded with zeros.
    pub text: [u8; Self::TEXT_BYTES],
}

impl Moment {
    /// Words of an entry as it is stored.
    pub const WORDS: usize = 32;

    /// Longest text, in bytes.
    pub const TEXT_BYTES: usize = 8 * (Self::WORDS - TEXT);

    /// The words that are stored in the map.
    pub fn pack(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        words[0] = self.number;
        words[1] = self.at_ms;
        pack_bytes(&mut words[NAME..TEXT], &self.generation);
        pack_bytes(&mut words[TEXT..], &self.text);
        words
    }

    /// Reads an entry back; none if it is free.
    pub fn unpack(words: &[u64; Self::WORDS]) -> Option<Self> {
        if words[0] == 0 {
            return None;
        }
        Some(Self {
            number: words[0],
            at_ms: words[1],
            generation: unpack_bytes(&words[NAME..TEXT]),
            text: unpack_bytes(&words[TEXT..]),
        })
    }

    /// A text as it is stored; what is longer than it can be is cut off.
    pub fn text_bytes(text: &str) -> [u8; Self::TEXT_BYTES] {
        pad(text)
    }

    /// What happened; none if it is not text.
    pub fn text(&self) -> Option<&str> {
        padded(&self.text)
    }

    /// The generation's name; none if it is not text.
    pub fn generation(&self) -> Option<&str> {
        padded(&self.generation)
    }
}

const NAME: usize = 2;
const TEXT: usize = NAME + Member::NAME_BYTES / 8;

/// Text as bytes, padded with zeros, or cut off where a character ends.
pub(crate) fn pad<const N: usize>(text: &str) -> [u8; N] {
    let text = &text[..text.floor_char_boundary(N)];
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// Text that is padded with zeros; none if it is not text.
pub(crate) fn padded(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|byte| *byte == 0);
    core::str::from_utf8(&bytes[..length.unwrap_or(bytes.len())]).ok()
}

/// Bytes in little-endian words, of which there must be enough.
pub(crate) fn pack_bytes(words: &mut [u64], bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        words[at / 8] |= u64::from(*byte) << (at % 8 * 8);
    }
}

/// Reads bytes back from little-endian words, of which there must be enough.
pub(crate) fn unpack_bytes<const N: usize>(words: &[u64]) -> [u8; N] {
    core::array::from_fn(|at| words[at / 8].to_le_bytes()[at % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_packing() {
        let moment = Moment {
            number: 7,
            at_ms: u64::MAX,
            generation: pad("v1.2.3"),
            text: Moment::text_bytes("draining: 3 queued, 1 half-open"),
        };
        assert_eq!(Moment::unpack(&moment.pack()), Some(moment));
        assert_eq!(moment.generation(), Some("v1.2.3"));
        assert_eq!(moment.text(), Some("draining: 3 queued, 1 half-open"));
        assert_eq!(Moment::unpack(&[0; Moment::WORDS]), None);
    }

    #[test]
    fn a_text_is_cut_off_where_a_character_ends() {
        assert_eq!(padded(&pad::<4>("abcé")), Some("abc"));
        assert_eq!(padded(&pad::<5>("abcé")), Some("abcé"));
        assert_eq!(padded(&pad::<4>("")), Some(""));
    }
}
