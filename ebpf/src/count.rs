//! Counting: one per run, on the CPU it ran on.
//!
//! The program runs with bottom halves disabled, so nothing else on this CPU can be between the
//! read and the write of a counter.

use synflip_abi::{MIGRATED, RETRIED, SELECTED};

use crate::maps::{COUNTERS, OUTCOMES};

/// Adds one to an outcome of an endpoint.
#[inline(always)]
pub(crate) fn outcome(endpoint: u32, which: usize) {
    if let Some(words) = OUTCOMES.get_ptr_mut(endpoint) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        unsafe { (*words)[which] += 1 };
    }
}

/// Adds one to what a slot was given, and to its retries if it was not the first choice.
///
/// Every index is a constant: without CAP_PERFMON the verifier refuses an offset that depends on
/// the path taken.
#[inline(always)]
pub(crate) fn slot(slot: u32, migrated: bool, retried: bool) {
    if let Some(words) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        let words = unsafe { &mut *words };
        words[SELECTED] += u64::from(!migrated);
        words[MIGRATED] += u64::from(migrated);
        words[RETRIED] += u64::from(retried);
    }
}
