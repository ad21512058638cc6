//! Counting: one per run, on the CPU it ran on.
//!
//! A run that has selected a slot counts for that slot, any other for its endpoint: one per-CPU
//! entry is looked up, not two. What an endpoint's runs come to is added up by whoever asks.
//!
//! The program runs with bottom halves disabled, so nothing else on this CPU can be between the
//! read and the write of a counter. Every index is a constant: without CAP_PERFMON the verifier
//! refuses an offset that depends on the path taken.

use synflip_abi::{FELL_BACK, MIGRATED, NO_TABLE, RETRIED, SELECTED};

use crate::{
    maps::{COUNTERS, OUTCOMES},
    select::Unsteered,
};

/// Adds one to what came of an endpoint's runs that selected nothing.
#[inline(always)]
pub(crate) fn unsteered(endpoint: u32, why: Unsteered) {
    if let Some(words) = OUTCOMES.get_ptr_mut(endpoint) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        let words = unsafe { &mut *words };
        words[NO_TABLE] += u64::from(why == Unsteered::NoTable);
        words[FELL_BACK] += u64::from(why == Unsteered::FellBack);
    }
}

/// Adds one to what a slot was given, and to its retries if it was not the first choice.
#[inline(always)]
pub(crate) fn slot(slot: u32, migrating: bool, retried: bool) {
    if let Some(words) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        let words = unsafe { &mut *words };
        if migrating {
            words[MIGRATED] += 1;
        } else {
            words[SELECTED] += 1;
        }
        if retried {
            words[RETRIED] += 1;
        }
    }
}
