//! Building and reading slot tables.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use synflip_abi::{
    ENTRY_WORDS, FIRST_SLOT, MAX_ENDPOINTS, MAX_SLOTS, META, Share, SlotEntry, Span, WHOLE,
};

use synflip_types::GenerationId;

/// A slot as it is in a table's words.
type Slot = u32;

/// A slot table: for each endpoint, the slots that its new connections are spread over.
///
/// Immutable; a flip publishes another one. As yet each endpoint has one share, which is whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Table {
    generation: GenerationId,
    epoch: u64,
    /// For each endpoint up to the last one that has slots: where its slots end. They begin where
    /// those of the endpoint before end.
    ends: Arc<[usize]>,
    slots: Arc<[Slot]>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = (0..MAX_ENDPOINTS).map(|endpoint| (endpoint, self.slots(endpoint)));
        let lists: BTreeMap<_, _> = lists.filter(|(_, slots)| !slots.is_empty()).collect();
        f.debug_struct("Table")
            .field("generation", &self.generation())
            .field("epoch", &self.epoch())
            .field("slots", &lists)
            .finish()
    }
}

impl Table {
    /// A table with the given slots for endpoint 0, 1, ….
    ///
    /// # Panics
    /// If there are more endpoints or slots than `synflip-abi` allows; the service checks both
    /// when a listener joins.
    pub fn new<'a, I>(endpoints: I) -> Self
    where
        I: IntoIterator<Item = &'a [Slot]>,
    {
        let (mut ends, mut all) = (Vec::new(), Vec::new());
        for slots in endpoints {
            all.extend_from_slice(slots);
            ends.push(all.len());
        }
        assert!(
            ends.len() <= MAX_ENDPOINTS as usize && all.len() <= MAX_SLOTS as usize,
            "endpoints and slots are counted when a listener joins"
        );
        // Equal tables are to be equal here as well: endpoints without slots at the end say nothing.
        let before = |ends: &[usize]| ends.iter().rev().nth(1).copied().unwrap_or(0);
        while ends.last().is_some_and(|last| *last == before(&ends)) {
            ends.pop();
        }
        Self {
            generation: GenerationId(0),
            epoch: 0,
            ends: ends.into(),
            slots: all.into(),
        }
    }

    /// Reads a table back from its words, as found in the kernel. The cookies in it are left out.
    ///
    /// None if it is not a table of this kind: spans that lie outside it, or several shares.
    pub fn from_words(words: &[u32]) -> Option<Self> {
        let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
        let [generation, low, high, _] = *entries.get(META as usize)?;
        let mut lists = Vec::new();
        for endpoint in 0..MAX_ENDPOINTS {
            let share = Share::unpack(*entries.get(Share::entry(endpoint, 0) as usize)?);
            let Span { begin, count } = share.span;
            if count == 0 {
                lists.push(Vec::new());
                continue;
            }
            let its = entries.get(begin as usize..(begin + count) as usize)?;
            let its = its.iter().map(|entry| SlotEntry::unpack(*entry).slot);
            let slots: Vec<Slot> = its.filter(|slot| *slot < MAX_SLOTS).collect();
            let complete = slots.len() == count as usize;
            if begin < FIRST_SLOT || share.until != WHOLE || !complete {
                return None;
            }
            lists.push(slots);
        }
        let count: usize = lists.iter().map(Vec::len).sum();
        let epoch = u64::from(high) << 32 | u64::from(low);
        (count <= MAX_SLOTS as usize)
            .then(|| Self::new(lists.iter().map(Vec::as_slice)).of(GenerationId(generation), epoch))
    }

    /// Which listener is meant by each slot of a table that was found in the kernel: its cookie.
    pub fn cookies(words: &[u32]) -> BTreeMap<Slot, u64> {
        let entries = words.as_chunks::<ENTRY_WORDS>().0.iter();
        let slots = entries.skip(FIRST_SLOT as usize);
        slots
            .map(|entry| SlotEntry::unpack(*entry))
            .filter(|entry| entry.cookie != 0)
            .map(|entry| (entry.slot, entry.cookie))
            .collect()
    }

    /// Marks the table as that of a generation, and of the flip that makes it work.
    #[must_use]
    pub fn of(self, generation: GenerationId, epoch: u64) -> Self {
        Self {
            generation,
            epoch,
            ..self
        }
    }

    /// The generation that the table makes work.
    pub fn generation(&self) -> GenerationId {
        self.generation
    }

    /// The count of flips that it belongs to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The words that are stored in the kernel's map; all that follow are zero.
    ///
    /// The cookies are not known here: `synflip-bpf` adds them.
    pub fn words(&self) -> Vec<u32> {
        let mut entries = vec![[0; ENTRY_WORDS]; FIRST_SLOT as usize];
        let half = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        let (low, high) = (half(self.epoch), half(self.epoch >> 32));
        entries[META as usize] = [self.generation.0, low, high, 0];
        for endpoint in 0..MAX_ENDPOINTS {
            let slots = self.slots(endpoint);
            if slots.is_empty() {
                continue;
            }
            let share = Share {
                span: self.span(endpoint),
                until: WHOLE,
                generation: self.generation.0,
            };
            entries[Share::entry(endpoint, 0) as usize] = share.pack();
            let slots = slots.iter().map(|slot| SlotEntry {
                slot: *slot,
                cookie: 0,
            });
            entries.extend(slots.map(SlotEntry::pack));
        }
        entries.into_flattened()
    }

    fn range(&self, endpoint: u32) -> Range<usize> {
        let endpoint = endpoint as usize;
        let Some(end) = self.ends.get(endpoint) else {
            return 0..0;
        };
        let begin = endpoint
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        begin..*end
    }

    /// Where an endpoint's slots are in the kernel's table.
    fn span(&self, endpoint: u32) -> Span {
        let range = self.range(endpoint);
        let word = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Span {
            begin: FIRST_SLOT + word(range.start),
            count: word(range.len()),
        }
    }

    /// The slots of an endpoint.
    pub fn slots(&self, endpoint: u32) -> &[Slot] {
        &self.slots[self.range(endpoint)]
    }

    /// All slots, endpoint by endpoint.
    pub fn all_slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied()
    }

    /// Whether it has no slot at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot that the program tries at the given attempt for a connection with this hash.
    pub fn pick(&self, endpoint: u32, hash: u32, attempt: u32) -> Option<Slot> {
        let span = self.span(endpoint);
        let at = (attempt < span.count).then(|| span.entry(hash, attempt) - FIRST_SLOT)?;
        self.slots.get(at as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use synflip_abi::TABLE_ENTRIES;

    use super::*;

    proptest! {
        /// The reference model is the list of lists that the table was made from.
        #[test]
        fn a_table_is_the_lists_it_was_made_from(
            lists in prop::collection::vec(prop::collection::vec(0..MAX_SLOTS, 0..60), 0..16),
            hash: u32,
        ) {
            let table = Table::new(lists.iter().map(Vec::as_slice));
            let again = Table::from_words(&table.words());
            prop_assert_eq!(Some(&table), again.as_ref());
            let marked = table.clone().of(GenerationId(7), u64::from(hash) << 8);
            prop_assert_eq!(marked.epoch(), u64::from(hash) << 8);
            let mut padded = marked.words();
            padded.resize(TABLE_ENTRIES as usize * ENTRY_WORDS, 0);
            let again = Table::from_words(&padded);
            prop_assert_eq!(Some(&marked), again.as_ref());
            for (endpoint, list) in (0..).zip(&lists) {
                prop_assert_eq!(table.slots(endpoint), list.as_slice());
                let first = (u64::from(hash) * list.len() as u64) >> 32;
                for attempt in 0..list.len() {
                    let at = (usize::try_from(first).unwrap() + attempt) % list.len();
                    let attempt = u32::try_from(attempt).unwrap();
                    prop_assert_eq!(table.pick(endpoint, hash, attempt), Some(list[at]));
                }
                let beyond = u32::try_from(list.len()).unwrap();
                prop_assert_eq!(table.pick(endpoint, hash, beyond), None);
            }
            prop_assert_eq!(table.is_empty(), lists.iter().all(Vec::is_empty));
        }

        #[test]
        fn what_is_no_table_is_refused(
            mut words in prop::collection::vec(any::<u32>(), 0..400),
            begin in 60_u32..70,
            count in 0_u32..40,
        ) {
            let span = Span { begin, count };
            let share = Share { span, until: WHOLE, generation: 1 };
            for (word, with) in words.iter_mut().zip(share.pack()) {
                *word = with;
            }
            if let Some(table) = Table::from_words(&words) {
                let _slots = table.all_slots().count();
            }
        }
    }
}
