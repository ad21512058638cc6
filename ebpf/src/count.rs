//! Counting: one per run, on the CPU it ran on.
//!
//! The program runs with bottom halves disabled, so nothing else on this CPU can be between the
//! read and the write of a counter. Every index is a constant: without CAP_PERFMON the verifier
//! refuses an offset that depends on the path taken.

use synflip_abi::{FELL_BACK, MIGRATED, MOVED, NO_TABLE, RETRIED, RUNS, SELECTED, STEERED};

use crate::{
    maps::{COUNTERS, OUTCOMES},
    select::Outcome,
};

/// Adds one to an endpoint's runs, and one to what came of this run.
#[inline(always)]
pub(crate) fn run(endpoint: u32, outcome: Outcome) {
    if let Some(words) = OUTCOMES.get_ptr_mut(endpoint) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        let words = unsafe { &mut *words };
        words[RUNS] += 1;
        words[STEERED] += u64::from(outcome == Outcome::Steered);
        words[MOVED] += u64::from(outcome == Outcome::Moved);
        words[NO_TABLE] += u64::from(outcome == Outcome::NoTable);
        words[FELL_BACK] += u64::from(outcome == Outcome::FellBack);
    }
}

/// Adds one to what a slot was given, and to its retries if it was not the first choice.
#[inline(always)]
pub(crate) fn slot(slot: u32, outcome: Outcome, retried: bool) {
    if let Some(words) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
        let words = unsafe { &mut *words };
        words[SELECTED] += u64::from(outcome == Outcome::Steered);
        words[MIGRATED] += u64::from(outcome == Outcome::Moved);
        words[RETRIED] += u64::from(retried);
    }
}
