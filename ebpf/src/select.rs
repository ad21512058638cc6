//! From a connection's hash to a listener: table → slot → helper → outcome.

use aya_ebpf::{EbpfContext as _, helpers::bpf_sk_select_reuseport, programs::SkReuseportContext};
use synflip_abi::{MAX_TRIES, PUBLISHED, Span};

use crate::{count, maps};

/// What came of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A SYN, or a stray segment that belongs to no connection, was given to a listener.
    Steered,
    /// A request of a closed listener was. There may have been no packet.
    Moved,
    /// No table, or none for this endpoint: the kernel chose.
    NoTable,
    /// No slot could be selected: the kernel chose.
    FellBack,
}

/// Selects a listener of the working generation and counts what happened.
#[inline(always)]
pub(crate) fn steer(ctx: &SkReuseportContext, migrating: bool) {
    let endpoint = maps::ENDPOINT.load();
    let outcome = choose(ctx, endpoint, migrating);
    count::run(endpoint, outcome);
    #[cfg(feature = "log")]
    if outcome == Outcome::FellBack {
        aya_log_ebpf::warn!(
            ctx,
            "endpoint {}: no slot of the table is selectable",
            endpoint
        );
    }
}

#[inline(always)]
fn choose(ctx: &SkReuseportContext, endpoint: u32, migrating: bool) -> Outcome {
    let published = PUBLISHED;
    let Some(table) = maps::TABLES.get(published) else {
        return Outcome::NoTable;
    };
    let Some(word) = table.get(endpoint) else {
        return Outcome::NoTable;
    };
    let span = Span::unpack(*word);
    if span.count == 0 {
        return Outcome::NoTable;
    }
    let chosen = if migrating {
        Outcome::Moved
    } else {
        Outcome::Steered
    };
    let hash = ctx.hash();
    let found = 'found: {
        // Written out, because a loop costs CAP_PERFMON: without it the verifier also follows
        // each branch that is never taken, and there the count of attempts goes past its end.
        macro_rules! attempts {
            ($($attempt:literal)*) => {$(
                if $attempt >= span.count {
                    break 'found None;
                }
                let Some(slot) = table.get(span.word(hash, $attempt)) else { break 'found None };
                let slot = *slot;
                if select(ctx, slot) {
                    break 'found Some((slot, $attempt > 0));
                }
            )*};
        }
        const { assert!(MAX_TRIES == 16) };
        attempts!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        None
    };
    let Some((slot, retried)) = found else {
        return Outcome::FellBack;
    };
    count::slot(slot, chosen, retried);
    chosen
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
