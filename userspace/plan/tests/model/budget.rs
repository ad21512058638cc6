//! How often things may happen yet.

use std::hash::{Hash, Hasher};

/// What may happen yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) connections: u8,
    pub(crate) flips: u8,
    pub(crate) retires: u8,
    pub(crate) kills: u8,
    pub(crate) stops: u8,
    pub(crate) agent_deaths: u8,
    pub(crate) refusals: u8,
    pub(crate) thefts: u8,
    pub(crate) strangers: u8,
    pub(crate) hangs: u8,
}

impl Hash for Budget {
    /// States that differ in nothing else are looked for together.
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Budget {
    /// All of it in one word: five bits each, and one that is free.
    pub(crate) fn packed(self) -> u64 {
        let all = [
            self.connections,
            self.flips,
            self.retires,
            self.kills,
            self.stops,
            self.agent_deaths,
            self.refusals,
            self.thefts,
            self.strangers,
            self.hangs,
        ];
        all.iter().fold(0, |word, few| word << 6 | u64::from(*few))
    }

    /// Whether one packed budget has at least as much of everything as another.
    pub(crate) fn covers(more: u64, less: u64) -> bool {
        const FREE: u64 = 0x0820_8208_2082_0820;
        ((more | FREE) - less) & FREE == FREE
    }
}
