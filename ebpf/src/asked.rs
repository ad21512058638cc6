//! Connections that ask one listener, whatever the table says: health checks of a generation that
//! does not work yet.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    programs::SkReuseportContext,
};
use synflip_abi::Asked;

use crate::maps::ASKED;

/// Where the addresses begin in an IPv4 header, and in an IPv6 header.
const ADDRESSES_V4: u32 = 12;
const ADDRESSES_V6: u32 = 8;

/// The slot that this packet asks for: it comes from the port that is noted, and from the very
/// address that it goes to, which a packet from elsewhere cannot have.
#[inline(always)]
pub(crate) fn slot(ctx: &SkReuseportContext, endpoint: u32) -> Option<u32> {
    // Nearly always the end of it.
    let asked = Asked::unpack(*ASKED.get(endpoint)?)?;
    let port: [u8; 2] = load(ctx, Header::Transport, 0)?;
    if u16::from_be_bytes(port) != asked.port {
        return None;
    }
    let [version]: [u8; 1] = load(ctx, Header::Network, 0)?;
    let is_own = match version >> 4 {
        4 => {
            let [source, destination]: [u32; 2] = load(ctx, Header::Network, ADDRESSES_V4)?;
            source == destination
        }
        6 => {
            let [a, b, c, d]: [u64; 4] = load(ctx, Header::Network, ADDRESSES_V6)?;
            (a, b) == (c, d)
        }
        _ => false,
    };
    is_own.then_some(u32::from(asked.slot))
}

/// What an offset counts from.
#[derive(Clone, Copy)]
enum Header {
    Network,
    Transport,
}

/// Reads a part of the packet; none if it has none, or is shorter.
///
/// `T` is an array of integers: any bytes make one. It is not cleared before, since the compiler
/// makes a loop of that, which costs CAP_PERFMON: see `select.rs`.
#[inline(always)]
fn load<T: Copy>(ctx: &SkReuseportContext, from: Header, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let (ctx, into) = (ctx.as_ptr().cast_const(), value.as_mut_ptr().cast());
    let length = size_of::<T>() as u32;
    let failed = match from {
        Header::Network => {
            let start = BPF_HDR_START_NET;
            // SAFETY: `ctx` is the context this program was called with, `into` has room for
            // `length` bytes.
            unsafe { bpf_skb_load_bytes_relative(ctx, offset, into, length, start) }
        }
        // SAFETY: as above.
        Header::Transport => unsafe { bpf_skb_load_bytes(ctx, offset, into, length) },
    };
    // SAFETY: the helper has filled it if it has not failed.
    (failed == 0).then(|| unsafe { value.assume_init() })
}
