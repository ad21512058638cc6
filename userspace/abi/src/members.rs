//! What the agent notes about each slot, for the agent that comes after it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::moments::{pack_bytes, pad, padded, unpack_bytes};

/// One entry of the `MEMBERS` map: all that an agent has to know of a listener to take it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The listener's socket cookie (`SO_COOKIE`), which no other socket ever gets.
    pub cookie: u64,
    /// What the slot is used for.
    pub state: MemberState,
    /// The endpoint that the listener is bound to.
    pub endpoint: u32,
    /// That endpoint's protocol, as IP numbers it: [`Self::TCP`].
    pub protocol: u8,
    /// That endpoint's address; of a link-local one with its scope.
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
    /// What later agents note besides: 0 means that nothing is noted. Whoever does not know it
    /// keeps it.
    pub later: [u64; Self::LATER_WORDS],
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

impl MemberState {
    /// Reads a state back; none if this version does not know it.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Registered,
            2 => Self::Kept,
            3 => Self::Tombstone,
            4 => Self::Leaving,
            _ => return None,
        })
    }
}

const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

/// Where the parts of an entry begin.
const COOKIE: usize = 0;
const STATE: usize = 1;
const GENERATION: usize = 2;
const ENDPOINT: usize = 3;
const ADDRESS: usize = 4;
const LEFT_AT: usize = 6;
const PID: usize = 7;
const STARTED: usize = 8;
const NAME: usize = 9;
const LATER: usize = NAME + Member::NAME_BYTES / 8;

impl Member {
    /// Words of an entry as it is stored.
    pub const WORDS: usize = LATER + Self::LATER_WORDS;

    /// Words that this version keeps and does not use.
    pub const LATER_WORDS: usize = 7;

    /// The word of [`Self::later`] that has flags.
    pub const FLAGS: usize = 0;
    /// Flag: a process that accepts from it has said that it is ready.
    pub const READY: u64 = 1;
    /// Flag: its process was adopted, and does not come back by itself.
    pub const ADOPTED: u64 = 2;
    /// Flag: every process that had it has left it. Without it, [`Self::pid`] 0 is a process that
    /// nothing is known of.
    pub const LEFT: u64 = 4;

    /// An entry that notes nothing.
    pub const FREE: [u64; Self::WORDS] = [0; Self::WORDS];

    /// Longest name, in bytes.
    pub const NAME_BYTES: usize = 64;

    /// Longest TCP_DEFER_ACCEPT, in seconds; the kernel's own bound is a fraction of it
    /// (`retrans_to_secs` of 255 retransmissions).
    pub const MAX_DEFER_ACCEPT: u32 = 0xff_ffff;

    /// `IPPROTO_TCP`.
    pub const TCP: u8 = 6;

    /// A TCP listener that is registered; what else there is to say of it is zero.
    pub const fn registered(cookie: u64, endpoint: u32, address: SocketAddr) -> Self {
        Self {
            cookie,
            state: MemberState::Registered,
            endpoint,
            protocol: Self::TCP,
            address,
            generation: 0,
            name: [0; Self::NAME_BYTES],
            owner_uid: 0,
            left_at: 0,
            defer_accept: 0,
            pid: 0,
            pid_namespace: 0,
            started: 0,
            later: [0; Self::LATER_WORDS],
        }
    }

    /// The words that are stored in the map.
    pub fn pack(&self) -> [u64; Self::WORDS] {
        let (family, ip, scope) = match self.address {
            SocketAddr::V4(at) => (FAMILY_V4, at.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(at) => (FAMILY_V6, *at.ip(), at.scope_id()),
        };
        let mut words = Self::FREE;
        words[COOKIE] = self.cookie;
        let defer_accept = self.defer_accept & Self::MAX_DEFER_ACCEPT;
        words[STATE] = join((self.state as u32) << 24 | defer_accept, self.owner_uid);
        words[GENERATION] = join(self.endpoint, self.generation);
        let [high, low] = self.address.port().to_be_bytes();
        let kind = u32::from_be_bytes([self.protocol, family, high, low]);
        words[ENDPOINT] = join(scope, kind);
        pack_bytes(&mut words[ADDRESS..LEFT_AT], &ip.octets());
        words[LEFT_AT] = u64::from(self.left_at);
        words[PID] = join(self.pid_namespace, self.pid);
        words[STARTED] = self.started;
        pack_bytes(&mut words[NAME..LATER], &self.name);
        words[LATER..].copy_from_slice(&self.later);
        words
    }

    /// Reads an entry back; none if it is free, or says what this version does not know.
    pub fn unpack(words: &[u64; Self::WORDS]) -> Option<Self> {
        let (state, owner_uid) = split(words[STATE]);
        let (endpoint, generation) = split(words[GENERATION]);
        let (scope, kind) = split(words[ENDPOINT]);
        let [protocol, family, high, low] = kind.to_be_bytes();
        let ip = Ipv6Addr::from(unpack_bytes::<16>(&words[ADDRESS..LEFT_AT]));
        let port = u16::from_be_bytes([high, low]);
        let address = match family {
            FAMILY_V4 => {
                let ip = ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
                SocketAddr::new(IpAddr::V4(ip), port)
            }
            FAMILY_V6 => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
            _ => return None,
        };
        let (pid_namespace, pid) = split(words[PID]);
        Some(Self {
            cookie: words[COOKIE],
            state: MemberState::from_number(state.to_be_bytes()[0])?,
            endpoint,
            protocol,
            address,
            generation,
            name: unpack_bytes(&words[NAME..LATER]),
            owner_uid,
            left_at: split(words[LEFT_AT]).1,
            defer_accept: state & Self::MAX_DEFER_ACCEPT,
            pid,
            pid_namespace,
            started: words[STARTED],
            later: core::array::from_fn(|at| words[LATER + at]),
        })
    }

    /// A name as it is stored; what is longer than it can be is cut off.
    pub fn name_bytes(name: &str) -> [u8; Self::NAME_BYTES] {
        pad(name)
    }

    /// The name as text; none if it is not text.
    pub fn name(&self) -> Option<&str> {
        padded(&self.name)
    }
}

const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// The halves of a word: the high one, then the low one.
const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, (word & 0xffff_ffff) as u32)
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
                "a-name-of-sixty-four-characters.which_is+as@long.as-it-ever-gets",
            ),
            (
                SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 1)),
                "mapped",
            ),
            (
                SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 8080, 0, 7).into(),
                "v1.2.3",
            ),
        ] {
            let member = Member {
                cookie: u64::MAX,
                state: MemberState::Leaving,
                endpoint: 15,
                protocol: Member::TCP,
                address,
                generation: 7,
                name: Member::name_bytes(name),
                owner_uid: u32::MAX,
                left_at: u32::MAX - 1,
                defer_accept: Member::MAX_DEFER_ACCEPT,
                pid: u32::MAX,
                pid_namespace: u32::MAX - 2,
                started: u64::MAX - 1,
                later: core::array::from_fn(|at| u64::MAX - at as u64),
            };
            assert_eq!(Member::unpack(&member.pack()), Some(member));
            assert_eq!(member.name(), Some(name));
        }
        assert_eq!(Member::unpack(&Member::FREE), None);
    }
}
