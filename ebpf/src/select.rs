//! From a connection's hash to a listener: table → slot → helper → outcome.

use aya_ebpf::{EbpfContext as _, helpers::bpf_sk_select_reuseport, programs::SkReuseportContext};
use synflip_abi::{FELL_BACK, MAX_TRIES, MIGRATED, NO_TABLE, PUBLISHED, RUNS, SELECTED, Span};

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
///
/// Each run adds one to exactly one of: selected, migrated, no table, fell back.
#[inline(always)]
pub(crate) fn steer(ctx: &SkReuseportContext, cause: Cause) {
    let endpoint = maps::ENDPOINT.load();
    count::outcome(endpoint, RUNS);

    let published = PUBLISHED;
    let Some(table) = maps::TABLES.get(published) else {
        return count::outcome(endpoint, NO_TABLE);
    };
    let span = match table.get(endpoint) {
        Some(word) => Span::unpack(*word),
        None => return count::outcome(endpoint, NO_TABLE),
    };
    // The working generation has nothing on this endpoint: as if there were no table for it.
    if span.count == 0 {
        return count::outcome(endpoint, NO_TABLE);
    }

    let hash = ctx.hash();
    let mut attempt = 0;
    while attempt < MAX_TRIES && attempt < span.count {
        let Some(slot) = table.get(span.word(hash, attempt)) else { break };
        let slot = *slot;
        if select(ctx, slot) {
            let counter = match cause {
                Cause::Packet => SELECTED,
                Cause::Migration => MIGRATED,
            };
            return count::slot(slot, counter, attempt > 0);
        }
        attempt += 1;
    }
    count::outcome(endpoint, FELL_BACK);
    #[cfg(feature = "log")]
    aya_log_ebpf::warn!(ctx, "endpoint {}: none of {} slots is selectable", endpoint, span.count);
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
