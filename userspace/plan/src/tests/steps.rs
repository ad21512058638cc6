//! Facts in random order.

use proptest::prelude::*;

use super::build::{ALT, WEB};

/// What happens. Numbers pick from what there is at that moment.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Join {
        process: u64,
        named: Option<usize>,
        listeners: Vec<(u16, u64)>,
        talks: bool,
    },
    Ready(u64),
    Died(u64),
    Closed(u64),
    Flip {
        to: usize,
        keep: bool,
        wait: u64,
    },
    Retire {
        name: usize,
        force: bool,
    },
    /// The oldest thing to be done is done; or it fails.
    Done {
        fails: bool,
        looks: [u8; 4],
    },
    Emptied(u64),
    Waiting(u32, u32, bool),
    Stranger(bool),
    After(u64),
}

pub(super) const NAMES: [&str; 6] = ["v1", "v2", "v3", "gen4", "latest", "previous"];

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let process = 1..6_u64;
    let listener = (prop::sample::select(vec![WEB, ALT]), 1..9_u64)
        // A cookie is of one address.
        .prop_map(|(port, at)| (port, at * 2 + u64::from(port == ALT)));
    let join = (
        process.clone(),
        prop::option::of(0..5_usize),
        prop::collection::btree_set(listener, 1..3),
        prop::bool::weighted(0.8),
    );
    let step = prop_oneof![
        6 => join.prop_map(|(process, named, listeners, talks)| {
            let listeners = listeners.into_iter().collect();
            Step::Join { process, named, listeners, talks }
        }),
        8 => process.clone().prop_map(Step::Ready),
        3 => process.clone().prop_map(Step::Died),
        2 => process.clone().prop_map(Step::Closed),
        6 => (0..NAMES.len(), any::<bool>(), prop::sample::select(vec![0, 50, 5_000]))
            .prop_map(|(to, keep, wait)| Step::Flip { to, keep, wait }),
        2 => (0..4_usize, any::<bool>()).prop_map(|(name, force)| Step::Retire { name, force }),
        30 => (prop::bool::weighted(0.1), any::<[u8; 4]>())
            .prop_map(|(fails, looks)| Step::Done { fails, looks }),
        2 => process.prop_map(Step::Emptied),
        1 => (0..6_u32, 1..3_u32, any::<bool>())
            .prop_map(|(slot, queued, beside)| Step::Waiting(slot, queued, beside)),
        1 => any::<bool>().prop_map(Step::Stranger),
        6 => prop::sample::select(vec![0, 3, 20, 300, 40_000]).prop_map(Step::After),
    ];
    prop::collection::vec(step, 1..120)
}
