//! Which slots are taken.

use synflip_abi::MAX_SLOTS;

/// Index of a listener in the kernel's socket array; its own as long as it is registered.
pub type Slot = u32;

/// The slots of a service.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    taken: Vec<bool>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            taken: vec![false; MAX_SLOTS as usize],
        }
    }

    /// Takes the lowest free slot.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        let index = self.taken.iter().position(|taken| !taken)?;
        self.taken[index] = true;
        u32::try_from(index).ok()
    }

    /// Takes this slot; false if it is taken already or there is no such slot.
    pub(crate) fn take_this(&mut self, slot: Slot) -> bool {
        let free = self.taken.get_mut(slot as usize).filter(|taken| !**taken);
        free.map(|taken| *taken = true).is_some()
    }

    pub(crate) fn give_back(&mut self, slot: Slot) {
        if let Some(taken) = self.taken.get_mut(slot as usize) {
            *taken = false;
        }
    }

    pub(crate) fn free(&self) -> usize {
        self.taken.iter().filter(|taken| !**taken).count()
    }
}
