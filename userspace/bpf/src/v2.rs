//! The layout of version 2 (0.1.0): only what is needed to carry a service over from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use synflip_abi::{
    ENTRY_WORDS, FIRST_SLOT, MAX_ENDPOINTS, META, Member, MemberState, Share, SlotEntry, Span,
    WHOLE,
};

/// The name of the directory that has its pins.
pub(crate) const DIR: &str = "v2";
/// Slots of a service.
pub(crate) const MAX_SLOTS: u32 = 1024;
/// Words of an entry of `MEMBERS`.
pub(crate) const MEMBER_WORDS: usize = 12;
/// Words of an entry of `COUNTERS`: selected, retried, migrated, as in this version.
pub(crate) const COUNTER_WORDS: usize = 3;
/// Words of an entry of `OUTCOMES`: runs, selected, migrated, no table, fell back.
pub(crate) const OUTCOME_WORDS: usize = 5;
/// Words of a slot table: a span for each endpoint, slots, the generation, the epoch.
pub(crate) const TABLE_WORDS: u32 = SPANS + MAX_SLOTS + 2;

const SPANS: u32 = 16;
const GENERATION: usize = TABLE_WORDS as usize - 2;
const EPOCH: usize = TABLE_WORDS as usize - 1;
const _: () = assert!(SPANS == MAX_ENDPOINTS);

/// Reads an entry of `MEMBERS`; none if it is free or makes no sense.
pub(crate) fn member(words: &[u64; MEMBER_WORDS]) -> Option<Member> {
    let bytes: Vec<u8> = words[4..10].iter().flat_map(|w| w.to_le_bytes()).collect();
    let (ip, name) = bytes.split_first_chunk::<16>()?;
    let (ip, port) = (Ipv6Addr::from(*ip), words[3].to_le_bytes());
    let ip = match port[2] {
        4 => IpAddr::V4(ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)),
        6 => IpAddr::V6(ip),
        _ => return None,
    };
    let address = SocketAddr::new(ip, u16::from_le_bytes([port[0], port[1]]));
    let (high, owner_uid) = halves(words[1]);
    let state = MemberState::from_number(high.to_be_bytes()[0])?;
    let (endpoint, generation) = halves(words[2]);
    let (pid_namespace, pid) = halves(words[10]);
    let mut padded = [0; Member::NAME_BYTES];
    padded
        .iter_mut()
        .zip(name)
        .for_each(|(to, from)| *to = *from);
    let left_at = halves(words[3]).0;
    let mut later = [0; Member::LATER_WORDS];
    // Version 2 did not note who was ready. What a flip went away from was (a retired one has no
    // flip); so is what the table names, which is seen there.
    if matches!(state, MemberState::Kept | MemberState::Leaving) && left_at != 0 {
        later[Member::FLAGS] = Member::READY;
    }
    Some(Member {
        state,
        generation,
        name: padded,
        owner_uid,
        left_at,
        defer_accept: high & Member::MAX_DEFER_ACCEPT,
        pid,
        pid_namespace,
        started: words[11],
        later,
        ..Member::registered(words[0], endpoint, address)
    })
}

/// The words of this version's table that says the same; none if this is no table of version 2.
pub(crate) fn upgraded(words: &[u32]) -> Option<Vec<u32>> {
    if words.len() != TABLE_WORDS as usize {
        return None;
    }
    let (generation, epoch) = (words[GENERATION], words[EPOCH]);
    let mut entries = vec![[0; ENTRY_WORDS]; FIRST_SLOT as usize];
    entries[META as usize] = [generation, epoch, 0, 0];
    for endpoint in 0..SPANS {
        let Span { begin, count } = Span::unpack(words[endpoint as usize]);
        let slots = words.get(begin as usize..(begin + count) as usize)?;
        if count == 0 {
            continue;
        }
        if begin < SPANS || slots.iter().any(|slot| *slot >= MAX_SLOTS) {
            return None;
        }
        let begin = u32::try_from(entries.len()).ok()?;
        let share = Share {
            span: Span { begin, count },
            until: WHOLE,
            generation,
        };
        entries[Share::entry(endpoint, 0) as usize] = share.pack();
        let slots = slots.iter().map(|slot| SlotEntry {
            slot: *slot,
            cookie: 0,
        });
        entries.extend(slots.map(SlotEntry::pack));
    }
    // Spans that overlap would make more of it than there can be.
    (entries.len() <= (FIRST_SLOT + MAX_SLOTS) as usize).then(|| entries.into_flattened())
}

/// The words of version 2's table that says the same as this version's; none if there is none,
/// since it has several shares, or slots that version 2 has not.
pub(crate) fn downgraded(words: &[u32]) -> Option<Vec<u32>> {
    let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
    let mut old = vec![0; TABLE_WORDS as usize];
    let [generation, epoch, ..] = *entries.get(META as usize)?;
    old[GENERATION] = generation;
    old[EPOCH] = epoch;
    let mut begin = SPANS;
    for endpoint in 0..SPANS {
        let share = Share::unpack(*entries.get(Share::entry(endpoint, 0) as usize)?);
        let Span { begin: from, count } = share.span;
        if count == 0 {
            continue;
        }
        let slots = entries.get(from as usize..(from + count) as usize)?;
        let into = old.get_mut(begin as usize..(begin + count) as usize)?;
        if share.until != WHOLE || (begin + count) as usize > GENERATION {
            return None;
        }
        for (into, entry) in into.iter_mut().zip(slots) {
            *into = SlotEntry::unpack(*entry).slot;
            if *into >= MAX_SLOTS {
                return None;
            }
        }
        old[endpoint as usize] = Span { begin, count }.pack();
        begin += count;
    }
    Some(old)
}

/// The halves of a word: the high one, then the low one.
fn halves(word: u64) -> (u32, u32) {
    let low = u32::try_from(word & 0xffff_ffff).unwrap_or(0);
    (u32::try_from(word >> 32).unwrap_or(0), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_the_same_in_both_layouts() {
        let mut old = vec![0; TABLE_WORDS as usize];
        old[0] = Span {
            begin: 16,
            count: 3,
        }
        .pack();
        old[5] = Span {
            begin: 19,
            count: 1,
        }
        .pack();
        old[16..20].copy_from_slice(&[7, 1023, 0, 2]);
        (old[GENERATION], old[EPOCH]) = (4, 9);
        let new = upgraded(&old).unwrap();
        assert_eq!(downgraded(&new).as_ref(), Some(&old));
        let share = |endpoint: u32| {
            let entries = new.as_chunks::<ENTRY_WORDS>().0;
            Share::unpack(entries[endpoint as usize])
        };
        assert_eq!((share(0).span.count, share(5).span.count), (3, 1));
        assert_eq!((share(0).until, share(0).generation), (WHOLE, 4));
        assert_eq!(share(1).span.count, 0);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert_eq!(upgraded(&[]), None);
        assert_eq!(upgraded(&vec![u32::MAX; TABLE_WORDS as usize]), None);
        assert_eq!(downgraded(&[]), None);
        assert_eq!(downgraded(&vec![u32::MAX; TABLE_WORDS as usize]), None);
    }

    #[test]
    fn a_note_is_understood() {
        let mut words = [0; MEMBER_WORDS];
        words[0] = 77;
        words[1] = 2 << 56 | 5 << 32 | 1000;
        words[2] = 3 << 32 | 9;
        words[3] = 12 << 32 | 4 << 16 | 8080;
        let ip = Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets();
        for (at, byte) in ip.iter().chain(b"gen9").enumerate() {
            words[4 + at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        words[10] = 8 << 32 | 4242;
        words[11] = 99;
        let mut later = [0; Member::LATER_WORDS];
        later[Member::FLAGS] = Member::READY;
        let expected = Member {
            state: MemberState::Kept,
            generation: 9,
            name: Member::name_bytes("gen9"),
            owner_uid: 1000,
            left_at: 12,
            defer_accept: 5,
            pid: 4242,
            pid_namespace: 8,
            started: 99,
            later,
            ..Member::registered(77, 3, ([10, 1, 2, 3], 8080).into())
        };
        assert_eq!(member(&words), Some(expected));
        assert_eq!(member(&[0; MEMBER_WORDS]), None);

        // Retired, or never flipped away from: it may never have been ready.
        let ready = |words: &_| member(words).map(|member| member.later[Member::FLAGS]);
        words[3] &= 0xffff_ffff;
        assert_eq!(ready(&words), Some(0));
        words[1] = 1 << 56;
        words[3] |= 12 << 32;
        assert_eq!(ready(&words), Some(0));
    }
}
