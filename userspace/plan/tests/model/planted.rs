//! Mistakes that are made on purpose, one at a time, to see that each is found.
//!
//! The machine is left as it is: what it is told, what it reads and what it wants done is changed
//! on the way, so that what happens is what a machine with that mistake would have done.

use std::mem;

use synflip_plan::{Answer, DrainEnd, Effect, Input, NoteState, Pending, PlanError, Reading};
use synflip_types::Slot;

use crate::{items::Item, scope::Scope, world::World};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// An empty accept queue is taken for an empty listener.
    HalfOpenIsNothing,
    /// The first of a hash bucket is closed like any other (A10).
    NoTombstone,
    /// A departure is not noted before the flip is published: the agent that comes after has
    /// forgotten it (A7).
    DepartureNotNoted,
    /// The program is not put back when somebody has taken it away (A9).
    NotPutBack,
    /// Nothing is held for whoever comes after the last one (A3, A12).
    NotHeld,
    /// A dead process's listeners stay in the table (A1, A4b).
    NotRefreshed,
    /// A deadline that passes is reported as a drain (C1).
    DrainedByDeadline,
    /// What a dead process has left in its queue is lent to nobody (A5).
    NotLent,
    /// A listener is closed while something is pending on it.
    ClosedFull,
    /// What a refused registration has brought is closed at once: it may be the first of its hash
    /// bucket (A16).
    RefusedAtOnce,
}

/// Each mistake, and a search that finds it.
pub(crate) const ALL: [(Mistake, &[Item]); 10] = [
    (Mistake::HalfOpenIsNothing, &[Item::Refusal]),
    (Mistake::NoTombstone, &[Item::TwoEndpoints]),
    (Mistake::DepartureNotNoted, &[Item::AgentDiesWithStore]),
    (Mistake::NotPutBack, &[Item::Stranger]),
    (Mistake::NotHeld, &[Item::Hold]),
    (Mistake::NotRefreshed, &[Item::TwoProcesses]),
    (Mistake::DrainedByDeadline, &[Item::TwoEndpoints]),
    (Mistake::NotLent, &[Item::TwoProcesses]),
    (Mistake::ClosedFull, &[Item::TwoProcesses]),
    (
        Mistake::RefusedAtOnce,
        &[Item::Kept, Item::Hold, Item::Refusal],
    ),
];

/// What a machine that makes the mistake would have wanted done.
pub(crate) fn change(scope: &Scope, world: &mut World, mut effects: Vec<Effect>) -> Vec<Effect> {
    let Some(mistake) = scope.mistake else {
        return effects;
    };
    if mistake == Mistake::RefusedAtOnce {
        effects = refused_at_once(effects);
    }
    let working = world.table.as_ref().map(synflip_plan::Table::generation);
    effects.retain(|effect| match (mistake, effect) {
        (Mistake::DepartureNotNoted, Effect::Note { note, .. }) => {
            !matches!(note.state, NoteState::Leaving(_) | NoteState::Kept(_))
        }
        (Mistake::NotRefreshed, Effect::Publish { table, .. }) => {
            let now = world.table.as_ref();
            let all = |table: &synflip_plan::Table| table.all_slots().count();
            let refreshes =
                Some(table.generation()) == working && now.is_some_and(|now| all(now) > all(table));
            if refreshes {
                world.reports.push_back(Input::Published(Ok(())));
            }
            !refreshes
        }
        (Mistake::NotLent, Effect::Lend { .. }) => false,
        (Mistake::NotPutBack, Effect::Attach { join }) => join.is_some(),
        _ => true,
    });
    for effect in &mut effects {
        if let (
            Mistake::DrainedByDeadline,
            Effect::Answer {
                answer: Answer::DrainOver { end, .. },
                ..
            },
        ) = (mistake, effect)
            && *end == DrainEnd::DeadlinePassed
        {
            *end = DrainEnd::Drained;
        }
    }
    effects
}

/// Closes what is kept instead because its registration was refused.
fn refused_at_once(effects: Vec<Effect>) -> Vec<Effect> {
    let refuses = |effect: &Effect| {
        let Effect::Answer { answer, .. } = effect else {
            return false;
        };
        matches!(answer, Answer::Refused(PlanError::Kernel { .. }))
    };
    if !effects.iter().any(refuses) {
        return effects;
    }
    let closes = |effect| match effect {
        Effect::Note { slot, note } if note.state == NoteState::Tombstone => {
            vec![Effect::Clear { slot }, Effect::Close { slot, lost: 0 }]
        }
        other => vec![other],
    };
    effects.into_iter().flat_map(closes).collect()
}

/// What it would have read.
pub(crate) fn readings(scope: &Scope, mut readings: Vec<(Slot, Reading)>) -> Vec<(Slot, Reading)> {
    for (_, reading) in &mut readings {
        let Reading::Pending(pending) = reading else {
            continue;
        };
        match scope.mistake {
            Some(Mistake::HalfOpenIsNothing) => pending.refcnt = 1 + pending.queued,
            Some(Mistake::ClosedFull) => {
                let _what_is_there = mem::replace(
                    pending,
                    Pending {
                        refcnt: 1,
                        queued: 0,
                    },
                );
            }
            _ => {}
        }
    }
    readings
}
