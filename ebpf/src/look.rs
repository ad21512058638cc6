//! What is pending on listeners, and who else has them: one record for each entry of a socket
//! storage map, whatever else the host has in its tables.
//!
//! The compiler cannot be told that a structure's layout is the kernel's business, so the offsets
//! come from the agent ([`OFFSETS`]), and everything is read with `bpf_probe_read_kernel`, which
//! fails where there is nothing to read.

use core::{ffi::c_void, mem::offset_of, num::NonZero};

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_probe_read_kernel, bpf_seq_write},
};
use synflip_abi::{Field, Looked};

use crate::maps::{FILE_COUNT_FROM, OFFSETS};

/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const TCP_LISTEN: u8 = 10;

/// `struct bpf_iter__bpf_sk_storage_map` (`net/core/bpf_sk_storage.c`).
#[repr(C)]
struct Visit {
    meta: *const Meta,
    map: *const c_void,
    sk: *const c_void,
    value: *const c_void,
}

/// The beginning of `struct bpf_iter_meta` (`include/linux/bpf.h`).
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Writes a record of one listener.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn look(visit: *const Visit) -> i32 {
    // As a number: to add an offset to it that is not a constant is not allowed otherwise.
    let sk = (visit as u64).wrapping_add(offset_of!(Visit, sk) as u64);
    // None at the end of the walk.
    let Some(sk) = load::<u64>(sk).and_then(NonZero::new) else {
        return 0;
    };
    let Some(looked) = examine(sk.get()) else {
        return 0;
    };
    let words = looked.pack();
    // SAFETY: the context is what the kernel has called this with.
    let meta = unsafe { (*visit).meta };
    // SAFETY: and so is what it points to.
    let seq = unsafe { (*meta).seq };
    // SAFETY: the record is on the stack, and as long as is said.
    unsafe { bpf_seq_write(seq, words.as_ptr().cast(), size_of_val(&words) as u32) };
    0
}

/// Looks at a socket. The reference count comes first and the queue last: what arrives in between
/// makes it look busier than it is, not less.
#[inline(always)]
fn examine(sk: u64) -> Option<Looked> {
    let refcnt = field(sk, Field::Refcnt)?;
    let fast_open = field(sk, Field::FastOpen)?;
    let half_open = field(sk, Field::HalfOpen)?;
    let queued = field(sk, Field::Queued)?;
    let state: u8 = field(sk, Field::State)?;
    let mut looked = Looked {
        cookie: field(sk, Field::Cookie)?,
        refcnt,
        queued,
        max_queued: field(sk, Field::MaxQueued)?,
        half_open,
        fast_open,
        head: None,
        listens: state == TCP_LISTEN,
        in_slot: field::<u64>(sk, Field::UserData)? != 0,
        members: 0,
        steered: false,
        program: 0,
        files: 0,
    };
    if let Some(head) = pointer(sk, Field::Head) {
        let received: u32 = field(head, Field::ReceivedIsn)?;
        let sent: u32 = field(head, Field::SentIsn)?;
        looked.head = NonZero::new(u64::from(received) << 32 | u64::from(sent));
    }
    if let Some(group) = pointer(sk, Field::Group) {
        looked.members = field(group, Field::Members)?;
        if let Some(program) = pointer(group, Field::Program) {
            looked.steered = true;
            if let Some(aux) = pointer(program, Field::Aux) {
                looked.program = field(aux, Field::Id)?;
            }
        }
    }
    if let Some(file) = pointer(sk, Field::Socket).and_then(|socket| pointer(socket, Field::File))
        && let Some(count) = field::<u64>(file, Field::FileCount)
    {
        looked.files = (count as u32).wrapping_add(FILE_COUNT_FROM.load());
    }
    Some(looked)
}

/// Reads a pointer; none if it is null, or cannot be read.
#[inline(always)]
fn pointer(structure: u64, field: Field) -> Option<u64> {
    self::field(structure, field).filter(|pointer| *pointer != 0)
}

/// Reads a field of a structure; none if the kernel has it not.
#[inline(always)]
fn field<T: Copy>(structure: u64, field: Field) -> Option<T> {
    let offset = OFFSETS[field as usize].load();
    if offset == Field::ABSENT {
        return None;
    }
    load(structure.wrapping_add(u64::from(offset)))
}

/// Reads an integer, of which any bytes make one.
#[inline(always)]
fn load<T: Copy>(at: u64) -> Option<T> {
    // SAFETY: from where there is nothing, the helper reads nothing and fails.
    unsafe { bpf_probe_read_kernel(at as *const T) }.ok()
}
