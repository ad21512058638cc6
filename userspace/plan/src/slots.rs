//! Which slots are taken.

use std::collections::BTreeSet;

use synflip_abi::MAX_SLOTS;

/// Index of a listener in the kernel's socket array; its own as long as it is registered.
pub type Slot = u32;

/// The slots of a service that are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slots {
    taken: BTreeSet<Slot>,
}

impl Slots {
    /// Takes the lowest free slot that is not `barred`.
    pub(crate) fn take(&mut self, barred: &BTreeSet<Slot>) -> Option<Slot> {
        let free = |slot: &Slot| !self.taken.contains(slot) && !barred.contains(slot);
        let slot = (0..MAX_SLOTS).find(free)?;
        self.taken.insert(slot);
        Some(slot)
    }

    /// Takes this slot; false if it is taken already or there is no such slot.
    pub(crate) fn take_this(&mut self, slot: Slot) -> bool {
        slot < MAX_SLOTS && self.taken.insert(slot)
    }

    pub(crate) fn give_back(&mut self, slot: Slot) {
        self.taken.remove(&slot);
    }

    /// How many slots are free and not `barred`.
    pub(crate) fn free(&self, barred: &BTreeSet<Slot>) -> usize {
        MAX_SLOTS as usize - self.taken.union(barred).count()
    }
}
