//! What the programs have counted.

use aya::maps::{Array, MapData, MapError, PerCpuArray, PerCpuValues};
use synflip_abi::{
    COUNTER_WORDS, COUNTERS, FELL_BACK, MAX_ENDPOINTS, MIGRATED, NO_TABLE, OUTCOME_WORDS, OUTCOMES,
    PAST, PAST_MIGRATED, PAST_SELECTED, PAST_SLOT, PAST_WORDS, RETRIED, SELECTED,
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

/// The counters of a service.
///
/// A run counts for the slot that it has selected, or for its endpoint if it has selected none.
/// What an endpoint's slots have been given is the sum over those that are in use and those that
/// were, which is kept when a slot becomes free.
pub(crate) struct Counters {
    pub(crate) slots: PerCpuArray<MapData, [u64; COUNTER_WORDS]>,
    pub(crate) outcomes: PerCpuArray<MapData, [u64; OUTCOME_WORDS]>,
    pub(crate) past: Array<MapData, [u64; PAST_WORDS]>,
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

    /// What came of an endpoint's runs, if these are its slots that are in use.
    pub(crate) fn outcomes(
        &self,
        endpoint: u32,
        slots: impl Iterator<Item = u32>,
    ) -> Result<Outcomes, BpfError> {
        let values = self
            .outcomes
            .get(&endpoint, 0)
            .map_err(BpfError::map("reading", OUTCOMES))?;
        let (words, past) = (sum(&values), self.past(endpoint)?);
        let (mut selected, mut migrated) = (past[PAST_SELECTED], past[PAST_MIGRATED]);
        for slot in slots.filter(|slot| past[PAST_SLOT] != u64::from(*slot) + 1) {
            let given = self.selections(slot)?;
            selected += given.selected;
            migrated += given.migrated;
        }
        let (no_table, fell_back) = (words[NO_TABLE], words[FELL_BACK]);
        Ok(Outcomes {
            runs: selected + migrated + no_table + fell_back,
            selected,
            migrated,
            no_table,
            fell_back,
        })
    }

    /// Adds a slot's counters to those that the endpoint keeps of listeners that have gone, and starts
    /// them from 0. No table may mention the slot.
    pub(crate) fn move_to_past(&mut self, slot: u32, endpoint: u32) -> Result<(), BpfError> {
        let given = self.selections(slot)?;
        if given == Selections::default() {
            return Ok(());
        }
        let mut past = self.past(endpoint)?;
        past[PAST_SELECTED] += given.selected;
        past[PAST_MIGRATED] += given.migrated;
        // Written together with the sums: an agent that finds the slot's number here knows that the
        // slot's counters are in the sums already, and does not count them twice.
        past[PAST_SLOT] = u64::from(slot) + 1;
        self.set_past(endpoint, past)?;
        self.finish_move_to_past(endpoint, past)
    }

    /// Finishes what an agent that has ended had begun with [`Self::fold`].
    pub(crate) fn finish_moves_to_past(&mut self) -> Result<(), BpfError> {
        for endpoint in 0..MAX_ENDPOINTS {
            let past = self.past(endpoint)?;
            self.finish_move_to_past(endpoint, past)?;
        }
        Ok(())
    }

    fn finish_move_to_past(
        &mut self,
        endpoint: u32,
        mut past: [u64; PAST_WORDS],
    ) -> Result<(), BpfError> {
        let Some(slot) = past[PAST_SLOT].checked_sub(1) else {
            return Ok(());
        };
        // A number that no slot has was not written by an agent.
        if let Ok(slot) = u32::try_from(slot)
            && slot < self.slots.len()
        {
            self.set(slot, [0; COUNTER_WORDS])?;
        }
        past[PAST_SLOT] = 0;
        self.set_past(endpoint, past)
    }

    /// Starts a slot's counters from 0, if they are not there. No table may mention it.
    pub(crate) fn reset(&mut self, slot: u32) -> Result<(), BpfError> {
        if self.selections(slot)? == Selections::default() {
            return Ok(());
        }
        self.set(slot, [0; COUNTER_WORDS])
    }

    /// Starts an endpoint's counters from 0; it has no slot.
    pub(crate) fn clear(&mut self, endpoint: u32) -> Result<(), BpfError> {
        self.set_outcomes(endpoint, [0; OUTCOME_WORDS])?;
        self.set_past(endpoint, [0; PAST_WORDS])
    }

    /// Sets a slot's counters: this on one CPU, 0 on all others.
    pub(crate) fn set(&mut self, slot: u32, words: [u64; COUNTER_WORDS]) -> Result<(), BpfError> {
        set_one(&mut self.slots, COUNTERS, slot, words)
    }

    /// Sets what came of an endpoint's runs that selected nothing.
    pub(crate) fn set_outcomes(
        &mut self,
        endpoint: u32,
        words: [u64; OUTCOME_WORDS],
    ) -> Result<(), BpfError> {
        set_one(&mut self.outcomes, OUTCOMES, endpoint, words)
    }

    fn past(&self, endpoint: u32) -> Result<[u64; PAST_WORDS], BpfError> {
        let past = self.past.get(&endpoint, 0);
        past.map_err(BpfError::map("reading", PAST))
    }

    pub(crate) fn set_past(
        &mut self,
        endpoint: u32,
        words: [u64; PAST_WORDS],
    ) -> Result<(), BpfError> {
        let done = self.past.set(endpoint, words, 0);
        done.map_err(BpfError::map("writing", PAST))
    }
}

/// Sets an entry on one CPU, and to 0 on all others.
fn set_one<const N: usize>(
    map: &mut PerCpuArray<MapData, [u64; N]>,
    name: &'static str,
    key: u32,
    words: [u64; N],
) -> Result<(), BpfError> {
    let failed = || BpfError::map("writing", name);
    let cpus = map.get(&key, 0).map_err(failed())?.len();
    let mut values = vec![[0; N]; cpus];
    if let Some(first) = values.first_mut() {
        *first = words;
    }
    let values = PerCpuValues::try_from(values);
    let values = values.map_err(|error| failed()(MapError::IoError(error)))?;
    map.set(key, values, 0).map_err(failed())
}

pub(crate) fn sum<const N: usize>(values: &PerCpuValues<[u64; N]>) -> [u64; N] {
    values.iter().fold([0; N], |mut sum, words| {
        sum.iter_mut()
            .zip(words)
            .for_each(|(sum, word)| *sum += word);
        sum
    })
}
