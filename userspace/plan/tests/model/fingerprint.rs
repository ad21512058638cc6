//! A fast hash of 64 bits, for states that are compared by nothing else.

use std::hash::Hasher;

#[derive(Default)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word ^ K) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(product >> 64).unwrap_or(0);
        self.0 = (low ^ high).wrapping_add(K).rotate_left(23);
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            // Tables are zeros almost everywhere.
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            if word == 0 {
                self.0 = self.0.wrapping_add(0x0123_4567_89ab_cdef);
            } else {
                self.mix(word);
            }
        }
        for byte in words.remainder() {
            self.mix(u64::from(*byte) | 0x100);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        let mut end = Self(self.0);
        end.mix(0);
        end.mix(1);
        end.0
    }
}

/// For keys that are fingerprints already.
#[derive(Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only for u64");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
