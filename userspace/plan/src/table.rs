//! Building and reading slot tables.

use std::{collections::BTreeMap, fmt, sync::Arc};

use synflip_abi::{
    EPOCH_WORD, GENERATION_WORD, HEADER_WORDS, MAX_ENDPOINTS, MAX_SLOTS, Span, TABLE_WORDS,
};

use synflip_types::GenerationId;

/// A slot as it is in a table's words.
type Slot = u32;

/// A slot table: for each endpoint, the slots that its new connections are spread over.
///
/// Immutable; a flip publishes another one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Table {
    words: Arc<[u32]>,
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
        let mut words = vec![0; TABLE_WORDS as usize];
        let mut begin = HEADER_WORDS;
        for (endpoint, slots) in (0..).zip(endpoints) {
            assert!(
                endpoint < MAX_ENDPOINTS,
                "endpoints are counted when a listener joins"
            );
            let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            assert!(
                count <= MAX_SLOTS,
                "slots are counted when a listener joins"
            );
            // An endpoint without slots is the same as one that does not exist: tables that say the
            // same are equal.
            if count > 0 {
                words[endpoint as usize] = Span { begin, count }.pack();
            }
            words[begin as usize..][..slots.len()].copy_from_slice(slots);
            begin += count;
        }
        Self {
            words: words.into(),
        }
    }

    /// Reads a table back from its words, as found in the kernel.
    ///
    /// None if it is not a table: another length, or spans that lie outside it.
    pub fn from_words(words: Vec<u32>) -> Option<Self> {
        let fits = |word: &u32| {
            let span = Span::unpack(*word);
            span.count == 0
                || (span.begin >= HEADER_WORDS && span.begin + span.count <= GENERATION_WORD)
        };
        let valid =
            words.len() == TABLE_WORDS as usize && words[..HEADER_WORDS as usize].iter().all(fits);
        valid.then(|| Self {
            words: words.into(),
        })
    }

    /// Marks the table as that of a generation, and of the flip that makes it work.
    #[must_use]
    pub fn of(self, generation: GenerationId, epoch: u64) -> Self {
        let mut words = self.words.to_vec();
        words[GENERATION_WORD as usize] = generation.0;
        // Only ever compared for what an operator has seen last: the low half will do.
        words[EPOCH_WORD as usize] = u32::try_from(epoch & 0xffff_ffff).unwrap_or(0);
        Self {
            words: words.into(),
        }
    }

    /// The generation that the table makes work.
    pub fn generation(&self) -> GenerationId {
        GenerationId(self.words[GENERATION_WORD as usize])
    }

    /// The count of flips that it belongs to.
    pub fn epoch(&self) -> u64 {
        u64::from(self.words[EPOCH_WORD as usize])
    }

    /// The words that are stored in the kernel's map.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The slots of an endpoint.
    pub fn slots(&self, endpoint: u32) -> &[Slot] {
        let Some(word) = self.words[..HEADER_WORDS as usize].get(endpoint as usize) else {
            return &[];
        };
        let span = Span::unpack(*word);
        if span.count == 0 {
            &[]
        } else {
            &self.words[span.begin as usize..][..span.count as usize]
        }
    }

    /// All slots, endpoint by endpoint.
    pub fn all_slots(&self) -> impl Iterator<Item = Slot> {
        (0..MAX_ENDPOINTS).flat_map(|endpoint| self.slots(endpoint).iter().copied())
    }

    /// Whether it has no slot at all.
    pub fn is_empty(&self) -> bool {
        self.all_slots().next().is_none()
    }

    /// The slot that the program tries at the given attempt for a connection with this hash.
    pub fn pick(&self, endpoint: u32, hash: u32, attempt: u32) -> Option<Slot> {
        let span = Span::unpack(*self.words[..HEADER_WORDS as usize].get(endpoint as usize)?);
        (attempt < span.count).then(|| self.words[span.word(hash, attempt) as usize])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The reference model is the list of lists that the table was made from.
        #[test]
        fn a_table_is_the_lists_it_was_made_from(
            lists in prop::collection::vec(prop::collection::vec(0..MAX_SLOTS, 0..60), 0..16),
            hash: u32,
        ) {
            let table = Table::new(lists.iter().map(Vec::as_slice));
            let again = Table::from_words(table.words().to_vec());
            prop_assert_eq!(Some(&table), again.as_ref());
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
        fn what_is_no_table_is_refused(words in prop::collection::vec(any::<u32>(), TABLE_WORDS as usize)) {
            if let Some(table) = Table::from_words(words) {
                let _slots = table.all_slots().count();
            }
        }
    }
}
