//! Mistakes that are made on purpose, one at a time, to see that each is found.

use synflip_plan::{Effect, Reading};
use synflip_types::Slot;

use crate::{scope::Scope, world::World};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// What cannot be seen is taken for empty.
    UnknownIsEmpty,
}

/// What a machine that makes the mistake would have done.
pub(crate) fn change(_scope: &Scope, _world: &World, effects: Vec<Effect>) -> Vec<Effect> {
    effects
}

/// What it would have read.
pub(crate) fn readings(scope: &Scope, readings: Vec<(Slot, Reading)>) -> Vec<(Slot, Reading)> {
    let _ = scope.mistake;
    readings
}
