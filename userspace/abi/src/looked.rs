//! What the iterator tells of a listener.

use core::num::NonZero;

/// Where a field is that the iterator reads: an offset from the structure that it is in.
///
/// Kernels differ in it. The agent finds it out from the kernel's own types, and tells it to the
/// program when it loads it (the global [`OFFSETS`](crate::OFFSETS)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// `sock`: the reference count.
    Refcnt,
    /// `sock`: the TCP state.
    State,
    /// `sock`: the cookie.
    Cookie,
    /// `sock`: the accept queue's length.
    Queued,
    /// `sock`: how long it may be.
    MaxQueued,
    /// `sock`: what a `REUSEPORT_SOCKARRAY` notes on a listener that is in it.
    UserData,
    /// `sock`: its reuseport group.
    Group,
    /// `sock`: the socket that a file is of.
    Socket,
    /// `inet_connection_sock`: handshakes that have begun.
    HalfOpen,
    /// `inet_connection_sock`: TCP Fast Open requests.
    FastOpen,
    /// `inet_connection_sock`: the first request of the accept queue.
    Head,
    /// `tcp_request_sock`: the sequence number that the client began with.
    ReceivedIsn,
    /// `tcp_request_sock`: the one of the answer.
    SentIsn,
    /// `sock_reuseport`: its listeners.
    Members,
    /// `sock_reuseport`: its program.
    Program,
    /// `bpf_prog`: what is not needed in each run.
    Aux,
    /// `bpf_prog_aux`: its number.
    Id,
    /// `socket`: its file.
    File,
    /// `file`: the references on it.
    FileCount,
}

impl Field {
    /// How many there are.
    pub const COUNT: usize = Self::FileCount as usize + 1;

    /// Stands for the offset of a field that this kernel has not, or not where it is looked for.
    pub const ABSENT: u32 = u32::MAX;
}

/// One listener, as it was when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Looked {
    /// Its socket cookie; 0 if nobody has asked for it yet.
    pub cookie: u64,
    /// References on it; 1 is its own.
    pub refcnt: u32,
    /// Its accept queue's length. Read after [`Self::refcnt`] and [`Self::fast_open`].
    pub queued: u32,
    /// How long its accept queue may be.
    pub max_queued: u32,
    /// Handshakes that have begun and not ended, without those of TCP Fast Open.
    pub half_open: u32,
    /// Requests of TCP Fast Open whose handshake has not ended, those included that were accepted,
    /// or reset and are parked. Read after [`Self::refcnt`].
    ///
    /// Those that were moved here from a listener that has closed are not counted when they come,
    /// but when they go (`inet_csk_listen_stop`, `reqsk_fastopen_remove`, 5.14 to 7.3): so the kernel
    /// counts too few from then on, below zero even, which is read as 0.
    pub fast_open: u32,
    /// Which connection is the first of the accept queue: the two initial sequence numbers. None
    /// if it is empty.
    pub head: Option<NonZero<u64>>,
    /// Whether it listens.
    pub listens: bool,
    /// Whether it is in a `REUSEPORT_SOCKARRAY`. The kernel takes it out when it is shut down, and
    /// does not put it back when it listens again.
    pub in_slot: bool,
    /// Listeners of its reuseport group, itself included; 0 if it is in none.
    pub members: u16,
    /// Whether its group has a program.
    pub steered: bool,
    /// The number of that program, if it is an eBPF one.
    pub program: u32,
    /// References on its open file: one for each descriptor, in whatever process. A system call
    /// that is under way can hold another one. 0 if it has no file, or that is not known.
    pub files: u32,
}

const COOKIE: usize = 0;
const COUNT: usize = 1;
const QUEUE: usize = 2;
const FAST_OPEN: usize = 3;
const GROUP: usize = 4;
const HEAD: usize = 5;

const LISTENS: u32 = 1;
const IN_SLOT: u32 = 2;
const STEERED: u32 = 4;

impl Looked {
    /// Words of a record as the iterator writes it.
    pub const WORDS: usize = HEAD + 1;

    /// The words that the iterator writes.
    #[inline(always)]
    pub const fn pack(&self) -> [u64; Self::WORDS] {
        let mut flags = (self.members as u32) << 16;
        if self.listens {
            flags |= LISTENS;
        }
        if self.in_slot {
            flags |= IN_SLOT;
        }
        if self.steered {
            flags |= STEERED;
        }
        let mut words = [0; Self::WORDS];
        words[COOKIE] = self.cookie;
        words[COUNT] = join(self.refcnt, self.queued);
        words[QUEUE] = join(self.max_queued, self.half_open);
        words[FAST_OPEN] = join(self.fast_open, self.files);
        words[GROUP] = join(flags, self.program);
        words[HEAD] = match self.head {
            Some(head) => head.get(),
            None => 0,
        };
        words
    }

    /// Reads a record.
    pub const fn unpack(words: &[u64; Self::WORDS]) -> Self {
        let (refcnt, queued) = split(words[COUNT]);
        let (max_queued, half_open) = split(words[QUEUE]);
        let (fast_open, files) = split(words[FAST_OPEN]);
        let (flags, program) = split(words[GROUP]);
        Self {
            cookie: words[COOKIE],
            refcnt,
            queued,
            max_queued,
            half_open,
            fast_open: not_negative(fast_open),
            head: NonZero::new(words[HEAD]),
            listens: flags & LISTENS != 0,
            in_slot: flags & IN_SLOT != 0,
            members: halves(flags).0,
            steered: flags & STEERED != 0,
            program,
            files,
        }
    }
}

const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// The halves of a word: the high one, then the low one.
const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, (word & 0xffff_ffff) as u32)
}

/// A count that the kernel has as an `int`.
const fn not_negative(count: u32) -> u32 {
    if count.cast_signed() < 0 { 0 } else { count }
}

const fn halves(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, (word & 0xffff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_packing() {
        let looked = Looked {
            cookie: u64::MAX - 1,
            refcnt: u32::MAX - 2,
            queued: 3,
            max_queued: u32::MAX - 4,
            half_open: 5,
            fast_open: 6,
            head: NonZero::new(u64::MAX - 7),
            listens: true,
            in_slot: false,
            members: u16::MAX - 8,
            steered: true,
            program: u32::MAX - 9,
            files: 10,
        };
        assert_eq!(Looked::unpack(&looked.pack()), looked);
        let other = Looked {
            listens: false,
            in_slot: true,
            steered: false,
            head: None,
            ..looked
        };
        assert_eq!(Looked::unpack(&other.pack()), other);
        assert_eq!(Looked::unpack(&[0; Looked::WORDS]), Looked::default());
        let negative = Looked {
            fast_open: u32::MAX,
            ..looked
        };
        assert_eq!(Looked::unpack(&negative.pack()).fast_open, 0);
    }
}
