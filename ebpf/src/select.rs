//! From a connection's hash to a listener: table → slot → helper → outcome.

use aya_ebpf::{EbpfContext as _, helpers::bpf_sk_select_reuseport, programs::SkReuseportContext};
use synflip_abi::{
    FELL_BACK, MAX_TRIES, MIGRATED, MOVED, NO_TABLE, PUBLISHED, RUNS, SELECTED, STEERED, Span,
};

use crate::{count, maps};

/// Why the program runs.
#[derive(Clone, Copy)]
pub(crate) enum Cause {
    /// A SYN, or a stray segment that belongs to no connection.
    Packet,
    /// A listener closed and one of its requests looks for a new one. There may be no packet.
    Migration,
}

/// Selects a listener of the working generation and counts what happened.
#[inline(always)]
pub(crate) fn steer(ctx: &SkReuseportContext, cause: Cause) {
    let endpoint = maps::ENDPOINT.load();
    let outcome = choose(ctx, endpoint, cause);
    count::outcome(endpoint, RUNS, outcome);
    #[cfg(feature = "log")]
    if outcome == FELL_BACK {
        aya_log_ebpf::warn!(ctx, "endpoint {}: no slot of the table is selectable", endpoint);
    }
}

/// Selects a listener, if it can, and returns the outcome to count.
#[inline(always)]
fn choose(ctx: &SkReuseportContext, endpoint: u32, cause: Cause) -> usize {
    let published = PUBLISHED;
    let Some(table) = maps::TABLES.get(published) else { return NO_TABLE };
    let Some(word) = table.get(endpoint) else { return NO_TABLE };
    let span = Span::unpack(*word);
    if span.count == 0 {
        return NO_TABLE;
    }
    let (counter, outcome) = match cause {
        Cause::Packet => (SELECTED, STEERED),
        Cause::Migration => (MIGRATED, MOVED),
    };
    let hash = ctx.hash();
    let mut attempt = 0;
    while attempt < MAX_TRIES && attempt < span.count {
        let Some(slot) = table.get(span.word(hash, attempt)) else { break };
        let slot = *slot;
        if select(ctx, slot) {
            count::slot(slot, counter, attempt > 0);
            return outcome;
        }
        attempt += 1;
    }
    FELL_BACK
}

/// Selects the listener in `slot`; false leaves an earlier selection as it was.
#[inline(always)]
fn select(ctx: &SkReuseportContext, mut slot: u32) -> bool {
    let sockets = (&raw const maps::SOCKETS).cast_mut().cast();
    let key = (&raw mut slot).cast();
    // SAFETY: `ctx` is the context this program was called with, `sockets` a REUSEPORT_SOCKARRAY
    // and `key` points to a 4-byte key on the stack, as the helper asks.
    unsafe { bpf_sk_select_reuseport(ctx.as_ptr().cast(), sockets, key, 0) == 0 }
}
