//! What the measurements have in common.

use serde::Serialize;

use crate::command::median_and_max;

/// The median and the worst of several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of none it is zero.
    pub(super) fn of(values: &[f64]) -> Self {
        let (p50, max) = median_and_max(values.to_vec()).unwrap_or_default();
        Self { p50, max }
    }
}

/// Whether a goal was reached. It is said, not enforced.
pub(super) const fn met(goal: bool) -> &'static str {
    if goal { "met" } else { "not met" }
}
