//! Connections that ask one listener, whatever the table says: health checks of a generation that
//! does not work yet.

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
    let mut port = [0; 2];
    // TCP has pulled the network header by now (`tcp_v4_rcv`, `tcp_v6_rcv`): its own is at 0.
    load(ctx, &mut port)?;
    if u16::from_be_bytes(port) != asked.port {
        return None;
    }
    let mut version = [0; 1];
    load_network(ctx, 0, &mut version)?;
    let is_own = match version[0] >> 4 {
        4 => {
            let mut addresses = [0; 8];
            load_network(ctx, ADDRESSES_V4, &mut addresses)?;
            same::<4, 8>(&addresses)
        }
        6 => {
            let mut addresses = [0; 32];
            load_network(ctx, ADDRESSES_V6, &mut addresses)?;
            same::<16, 32>(&addresses)
        }
        _ => false,
    };
    is_own.then_some(u32::from(asked.slot))
}

/// Whether both halves are alike. Written without a loop that ends early: see `select.rs`.
#[inline(always)]
fn same<const HALF: usize, const BOTH: usize>(bytes: &[u8; BOTH]) -> bool {
    let mut differ = 0;
    for at in 0..HALF {
        differ |= bytes[at] ^ bytes[at + HALF];
    }
    differ == 0
}

/// Reads what follows the network header.
#[inline(always)]
fn load<const N: usize>(ctx: &SkReuseportContext, to: &mut [u8; N]) -> Option<()> {
    let into = to.as_mut_ptr().cast();
    // SAFETY: `ctx` is the context this program was called with, `into` has room for `N` bytes.
    let failed = unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast_const(), 0, into, N as u32) };
    (failed == 0).then_some(())
}

/// Reads from the network header.
#[inline(always)]
fn load_network<const N: usize>(
    ctx: &SkReuseportContext,
    offset: u32,
    to: &mut [u8; N],
) -> Option<()> {
    let (ctx, into) = (ctx.as_ptr().cast_const(), to.as_mut_ptr().cast());
    // SAFETY: as above.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(ctx, offset, into, N as u32, BPF_HDR_START_NET as u32)
    };
    (failed == 0).then_some(())
}
