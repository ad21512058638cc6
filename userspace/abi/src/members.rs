//! What the agent notes about each slot, for the agent that comes after it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One entry of the `MEMBERS` map: all that an agent has to know of a listener to take it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The listener's socket cookie (`SO_COOKIE`), which no other socket ever gets.
    pub cookie: u64,
    /// What the slot is used for.
    pub state: MemberState,
    /// The endpoint that the listener is bound to.
    pub endpoint: u32,
    /// That endpoint's address.
    pub address: SocketAddr,
    /// The generation's number within its service, from 1.
    pub generation: u32,
    /// The generation's name, padded with zeros.
    pub name: [u8; Self::NAME_BYTES],
    /// The service's owner.
    pub owner_uid: u32,
    /// If its generation has been flipped away from: the low half of the count of flips that this
    /// flip was to make; 0 if it has been retired.
    pub left_at: u32,
    /// What TCP_DEFER_ACCEPT was before a drain cleared it, in seconds; 0 if none has. At most
    /// [`Self::MAX_DEFER_ACCEPT`].
    pub defer_accept: u32,
    /// The process that registered it, as the agent sees it; 0 if it cannot.
    pub pid: u32,
    /// The PID namespace that it has that number in: its inode.
    pub pid_namespace: u32,
    /// When that process started, in clock ticks since the system did: with the number it is that
    /// process and no other.
    pub started: u64,
}

/// What a slot is used for.
///
/// [`Self::Kept`] and [`Self::Leaving`] are noted *before* the flip away is published, so that
/// they are not forgotten with an agent that dies right after it. Of the generation that the
/// published table makes work they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// A listener of a generation that works, or has not worked yet.
    Registered = 1,
    /// A listener of a generation that has been flipped away from, and is kept for a rollback
    /// once it has drained.
    Kept = 2,
    /// A drained listener kept open so that it stays the first of its hash bucket.
    Tombstone = 3,
    /// A listener of a generation that has been flipped away from or retired, and is to close
    /// once it has drained.
    Leaving = 4,
}

const FAMILY_V4: u64 = 4;
const FAMILY_V6: u64 = 6;

impl Member {
    /// Words of an entry as it is stored.
    pub const WORDS: usize = 12;

    /// An entry that notes nothing.
    pub const FREE: [u64; Self::WORDS] = [0; Self::WORDS];

    /// Longest name, in bytes.
    pub const NAME_BYTES: usize = 32;

    /// Longest TCP_DEFER_ACCEPT, in seconds; the kernel's own bound is a fraction of it
    /// (`retrans_to_secs` of 255 retransmissions).
    pub const MAX_DEFER_ACCEPT: u32 = 0xff_ffff;

    /// The words that are stored in the map.
    pub fn pack(&self) -> [u64; Self::WORDS] {
        let (family, ip) = match self.address.ip() {
            IpAddr::V4(ip) => (FAMILY_V4, ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => (FAMILY_V6, ip.octets()),
        };
        let mut words = Self::FREE;
        words[0] = self.cookie;
        let defer_accept = u64::from(self.defer_accept & Self::MAX_DEFER_ACCEPT);
        words[1] = (self.state as u64) << 56 | defer_accept << 32 | u64::from(self.owner_uid);
        words[2] = u64::from(self.endpoint) << 32 | u64::from(self.generation);
        let left_at = u64::from(self.left_at);
        words[3] = left_at << 32 | family << 16 | u64::from(self.address.port());
        let bytes = ip.iter().chain(&self.name);
        for (at, byte) in bytes.enumerate() {
            words[4 + at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        words[10] = u64::from(self.pid_namespace) << 32 | u64::from(self.pid);
        words[11] = self.started;
        words
    }

    /// Reads an entry back; none if it is free, or says what this version does not know.
    pub fn unpack(words: &[u64; Self::WORDS]) -> Option<Self> {
        let (high, low) = (
            |word: u64| (word >> 32) as u32,
            |word: u64| (word & 0xffff_ffff) as u32,
        );
        let state = match high(words[1]) >> 24 {
            1 => MemberState::Registered,
            2 => MemberState::Kept,
            3 => MemberState::Tombstone,
            4 => MemberState::Leaving,
            _ => return None,
        };
        let byte = |at: usize| words[4 + at / 8].to_le_bytes()[at % 8];
        let ip = Ipv6Addr::from(core::array::from_fn::<u8, 16, _>(byte));
        let ip = match words[3] >> 16 & 0xffff {
            FAMILY_V4 => IpAddr::V4(ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)),
            FAMILY_V6 => IpAddr::V6(ip),
            _ => return None,
        };
        Some(Self {
            cookie: words[0],
            state,
            endpoint: high(words[2]),
            address: SocketAddr::new(ip, (words[3] & 0xffff) as u16),
            generation: low(words[2]),
            name: core::array::from_fn(|at| byte(16 + at)),
            owner_uid: low(words[1]),
            left_at: high(words[3]),
            defer_accept: high(words[1]) & Self::MAX_DEFER_ACCEPT,
            pid: low(words[10]),
            pid_namespace: high(words[10]),
            started: words[11],
        })
    }

    /// A name as it is stored; what is longer than it can be is cut off.
    pub fn name_bytes(name: &str) -> [u8; Self::NAME_BYTES] {
        let mut bytes = [0; Self::NAME_BYTES];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        bytes
    }

    /// The name as text; none if it is not text.
    pub fn name(&self) -> Option<&str> {
        let length = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.name.len());
        core::str::from_utf8(&self.name[..length]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_packing() {
        for (address, name) in [
            (SocketAddr::from(([10, 1, 2, 3], 80)), "gen1"),
            (SocketAddr::from(([0, 0, 0, 0], 65535)), "x"),
            (
                SocketAddr::from(([0xfd77, 0, 0, 0, 0, 0, 0, 1], 443)),
                "a-name-of-thirty-two-characters_",
            ),
            (
                SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 1)),
                "mapped",
            ),
        ] {
            let member = Member {
                cookie: u64::MAX,
                state: MemberState::Leaving,
                endpoint: 15,
                address,
                generation: 7,
                name: Member::name_bytes(name),
                owner_uid: u32::MAX,
                left_at: u32::MAX - 1,
                defer_accept: Member::MAX_DEFER_ACCEPT,
                pid: u32::MAX,
                pid_namespace: u32::MAX - 2,
                started: u64::MAX - 1,
            };
            assert_eq!(Member::unpack(&member.pack()), Some(member));
            assert_eq!(member.name(), Some(name));
        }
        assert_eq!(Member::unpack(&Member::FREE), None);
    }
}
