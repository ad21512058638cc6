//! Counting: one per run, on the CPU it ran on.
//!
//! A run that has selected a slot counts for that slot, any other for its endpoint: one per-CPU
//! entry is looked up, not two. What an endpoint's runs come to is added up by whoever asks.
//!
//! The program runs with bottom halves disabled, so nothing else on this CPU can be between the
//! read and the write of a counter. Every index is a constant: without CAP_PERFMON the verifier
//! refuses an offset that depends on the path taken.

use synflip_abi::{COUNTER_WORDS, FELL_BACK, MIGRATED, NO_TABLE, RETRIED, SELECTED};

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

/// What a slot was given, on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Given(Option<*mut [u64; COUNTER_WORDS]>);

impl Given {
    /// That of a slot; none if there is no such slot.
    #[inline(always)]
    pub(crate) fn of(slot: u32) -> Self {
        Self(COUNTERS.get_ptr_mut(slot))
    }

    /// Adds one.
    #[inline(always)]
    pub(crate) fn count(self, migrating: bool) {
        self.add(migrating, 1);
    }

    /// Takes it back: the slot is empty.
    #[inline(always)]
    pub(crate) fn take_back(self, migrating: bool) {
        self.add(migrating, u64::MAX);
    }

    /// Adds one, and one to what it was given in place of another slot.
    #[inline(always)]
    pub(crate) fn count_retried(self, migrating: bool) {
        self.add(migrating, 1);
        if let Some(words) = self.0 {
            // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
            let words = unsafe { &mut *words };
            words[RETRIED] += 1;
        }
    }

    #[inline(always)]
    fn add(self, migrating: bool, number: u64) {
        if let Some(words) = self.0 {
            // SAFETY: the verifier has seen the null check; the entry is this CPU's own.
            let words = unsafe { &mut *words };
            if migrating {
                words[MIGRATED] = words[MIGRATED].wrapping_add(number);
            } else {
                words[SELECTED] = words[SELECTED].wrapping_add(number);
            }
        }
    }
}
