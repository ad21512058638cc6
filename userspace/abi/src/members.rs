//! What the agent notes about each slot, for the agent that comes after it.

/// One entry of the `MEMBERS` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The listener's socket cookie (`SO_COOKIE`), which no other socket ever gets.
    pub cookie: u64,
    /// The generation's number within its service, from 1.
    pub generation: u32,
    /// The endpoint that the listener is bound to.
    pub endpoint: u32,
    /// What the slot is used for.
    pub state: MemberState,
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// No listener.
    #[default]
    Free,
    /// A listener of a generation that may be flipped to, works, or drains.
    Registered,
    /// A drained listener kept open so that it stays the first of its hash bucket.
    Tombstone,
}

impl Member {
    /// Words of an entry as it is stored.
    pub const WORDS: usize = 3;

    /// The words that are stored in the map.
    pub const fn pack(self) -> [u64; Self::WORDS] {
        let place = (self.endpoint as u64) << 32 | self.generation as u64;
        [self.cookie, place, self.state as u64]
    }

    /// Reads an entry back; an unknown state counts as [`MemberState::Free`].
    pub const fn unpack(words: [u64; Self::WORDS]) -> Self {
        Self {
            cookie: words[0],
            generation: (words[1] & 0xffff_ffff) as u32,
            endpoint: (words[1] >> 32) as u32,
            state: match words[2] {
                1 => MemberState::Registered,
                2 => MemberState::Tombstone,
                _ => MemberState::Free,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_packing() {
        let member = Member {
            cookie: u64::MAX,
            generation: 7,
            endpoint: 15,
            state: MemberState::Tombstone,
        };
        assert_eq!(Member::unpack(member.pack()), member);
        assert_eq!(Member::unpack([0; 3]), Member::default());
    }
}
