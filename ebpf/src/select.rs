//! From a connection's hash to a listener: table → share → slot → helper → outcome.

use aya_ebpf::{EbpfContext as _, helpers::bpf_sk_select_reuseport, programs::SkReuseportContext};
use synflip_abi::{MAX_SHARES, MAX_TRIES, PUBLISHED, Share, SlotEntry, Span, WHOLE};

use crate::{
    asked,
    count::{self, Given},
    maps,
    maps::Table,
};

/// Why the kernel chose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsteered {
    /// No table, or none for this endpoint.
    NoTable,
    /// No slot could be selected.
    FellBack,
}

/// Selects a listener of the working generation and counts what happened.
///
/// `migrating`: it is for a request of a closed listener. There may be no packet.
#[inline(always)]
pub(crate) fn steer(ctx: &SkReuseportContext, migrating: bool) {
    let endpoint = maps::ENDPOINT.load();
    if !migrating
        && let Some(slot) = asked::slot(ctx, endpoint)
        && select(ctx, slot)
    {
        return Given::of(slot).count(false);
    }
    match choose(ctx, endpoint, migrating) {
        Ok(None) => {}
        Ok(Some(slot)) => Given::of(slot).count_retried(migrating),
        Err(why) => {
            count::unsteered(endpoint, why);
            #[cfg(feature = "log")]
            if why == Unsteered::FellBack {
                aya_log_ebpf::warn!(
                    ctx,
                    "endpoint {}: no slot of the table is selectable",
                    endpoint
                );
            }
        }
    }
}

/// Selects a slot of the table; returns it if it was not the first choice, which is counted already.
#[inline(always)]
fn choose(
    ctx: &SkReuseportContext,
    endpoint: u32,
    migrating: bool,
) -> Result<Option<u32>, Unsteered> {
    let published = PUBLISHED;
    let table = maps::TABLES.get(published).ok_or(Unsteered::NoTable)?;
    let hash = ctx.hash();
    let span = share(table, endpoint, hash).ok_or(Unsteered::NoTable)?;
    // Written out, because a loop costs CAP_PERFMON: without it the verifier also follows each
    // branch that is never taken, and there the count of attempts goes past its end.
    macro_rules! attempts {
        ($($attempt:literal)*) => {$(
            if $attempt >= span.count {
                return Err(Unsteered::FellBack);
            }
            let entry = table.get(span.entry(hash, $attempt)).ok_or(Unsteered::FellBack)?;
            let slot = entry[SlotEntry::SLOT];
            if $attempt == 0 {
                // Before it is selected, as it nearly always is: the counters are not in the
                // processor's cache as a rule, nor is the listener, and so it fetches both at once.
                let given = Given::of(slot);
                given.count(migrating);
                if select(ctx, slot) {
                    return Ok(None);
                }
                given.take_back(migrating);
            } else if select(ctx, slot) {
                return Ok(Some(slot));
            }
        )*};
    }
    const { assert!(MAX_TRIES == 16) };
    attempts!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    Err(Unsteered::FellBack)
}

/// The slots of the share that a connection falls into.
#[inline(always)]
fn share(table: &Table, endpoint: u32, hash: u32) -> Option<Span> {
    let first = table.get(Share::entry(endpoint, 0))?;
    let mut span = Span::unpack(first[Share::SPAN]);
    if span.count == 0 {
        return None;
    }
    let mut until = first[Share::UNTIL];
    if until != WHOLE {
        let point = Share::point(hash);
        macro_rules! shares {
            ($($share:literal)*) => {$(
                if point > until {
                    let next = table.get(Share::entry(endpoint, $share))?;
                    span = Span::unpack(next[Share::SPAN]);
                    until = next[Share::UNTIL];
                }
            )*};
        }
        const { assert!(MAX_SHARES == 4) };
        shares!(1 2 3);
        if point > until || span.count == 0 {
            return None;
        }
    }
    Some(span)
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
