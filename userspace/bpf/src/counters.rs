//! What the programs have counted.

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use synflip_abi::{
    COUNTER_WORDS, COUNTERS, FELL_BACK, MIGRATED, MOVED, NO_TABLE, OUTCOME_WORDS, OUTCOMES,
    RETRIED, RUNS, SELECTED, STEERED,
};

use crate::BpfError;

/// What came of an endpoint's runs: `runs` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How often the program ran; not the number of connections.
    pub runs: u64,
    /// A listener of the published table was selected.
    pub selected: u64,
    /// A request of a closed listener was moved to one of the table.
    pub migrated: u64,
    /// There was no table, or none for this endpoint.
    pub no_table: u64,
    /// No slot of the table could be selected.
    pub fell_back: u64,
}

/// What a slot was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selections {
    /// New connections, or stray segments.
    pub selected: u64,
    /// Of all it was given: in place of an empty slot.
    pub retried: u64,
    /// Requests of closed listeners.
    pub migrated: u64,
}

/// The per-CPU maps of a service.
pub(crate) struct Counters {
    pub(crate) slots: PerCpuArray<MapData, [u64; COUNTER_WORDS]>,
    pub(crate) outcomes: PerCpuArray<MapData, [u64; OUTCOME_WORDS]>,
}

impl Counters {
    pub(crate) fn selections(&self, slot: u32) -> Result<Selections, BpfError> {
        let values = self
            .slots
            .get(&slot, 0)
            .map_err(BpfError::map("reading", COUNTERS))?;
        let words = sum(&values);
        Ok(Selections {
            selected: words[SELECTED],
            retried: words[RETRIED],
            migrated: words[MIGRATED],
        })
    }

    pub(crate) fn outcomes(&self, endpoint: u32) -> Result<Outcomes, BpfError> {
        let values = self
            .outcomes
            .get(&endpoint, 0)
            .map_err(BpfError::map("reading", OUTCOMES))?;
        let words = sum(&values);
        Ok(Outcomes {
            runs: words[RUNS],
            selected: words[STEERED],
            migrated: words[MOVED],
            no_table: words[NO_TABLE],
            fell_back: words[FELL_BACK],
        })
    }

    /// Starts a slot's counters from 0. No table may mention it.
    pub(crate) fn reset(&mut self, slot: u32) -> Result<(), BpfError> {
        let failed = || BpfError::map("resetting", COUNTERS);
        let cpus = self.slots.get(&slot, 0).map_err(failed())?.len();
        let zeroed = PerCpuValues::try_from(vec![[0; COUNTER_WORDS]; cpus]);
        let zeroed = zeroed.map_err(|error| failed()(MapError::IoError(error)))?;
        self.slots.set(slot, zeroed, 0).map_err(failed())
    }
}

fn sum<const N: usize>(values: &PerCpuValues<[u64; N]>) -> [u64; N] {
    values.iter().fold([0; N], |mut sum, words| {
        sum.iter_mut()
            .zip(words)
            .for_each(|(sum, word)| *sum += word);
        sum
    })
}
