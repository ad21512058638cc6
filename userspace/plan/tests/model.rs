//! Does a service stay sound whatever happens to it, in whatever order?
//!
//! Random steps are taken by a [`Service`] and by a reference model of it that is as simple as it
//! can be. After each step the two must agree, and what must always hold is checked by itself.

use std::{collections::BTreeSet, net::SocketAddr};

use proptest::prelude::*;
use synflip_plan::{GenerationId, Phase, ProcessId, Service, Slot, Target};

use model::Model;

#[path = "model/model.rs"]
mod model;

/// What can happen. Numbers pick from what there is at that moment.
#[derive(Clone, Debug)]
enum Step {
    Join {
        process: u64,
        name: Option<usize>,
        listeners: Vec<Listener>,
    },
    JoinMany {
        process: u64,
        listeners: usize,
    },
    Ready(u64),
    Leave(u64),
    Lose(usize),
    Flip {
        to: To,
        stale: bool,
    },
    Commit,
    Abort,
    Refresh,
    Drained {
        generation: usize,
        keep: bool,
    },
    Retire {
        name: usize,
        force: bool,
    },
    Bury(usize),
    Close(usize),
}

#[derive(Clone, Debug)]
enum Listener {
    /// A new one, on this port.
    New(u16),
    /// One that has been registered before.
    Known(usize),
}

#[derive(Clone, Debug)]
enum To {
    Named(usize),
    Latest,
    Previous,
}

const NAMES: [&str; 5] = ["a", "b", "c", "gen2", "latest"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let process = 1..5_u64;
    let listener = prop_oneof![
        8 => (0..3_u16).prop_map(Listener::New),
        1 => (0..20_u16).prop_map(Listener::New),
        2 => (0..20_usize).prop_map(Listener::Known),
    ];
    let join = (
        process.clone(),
        prop::option::of(0..NAMES.len()),
        prop::collection::vec(listener, 1..4),
    );
    let to = prop_oneof![
        4 => (0..NAMES.len()).prop_map(To::Named),
        2 => Just(To::Latest),
        2 => Just(To::Previous),
    ];
    let step = prop_oneof![
        8 => join.prop_map(|(process, name, listeners)| Step::Join { process, name, listeners }),
        1 => (process.clone(), 300..600_usize)
            .prop_map(|(process, listeners)| Step::JoinMany { process, listeners }),
        10 => process.clone().prop_map(Step::Ready),
        3 => process.prop_map(Step::Leave),
        1 => (0..30_usize).prop_map(Step::Lose),
        10 => (to, prop::bool::weighted(0.1)).prop_map(|(to, stale)| Step::Flip { to, stale }),
        10 => Just(Step::Commit),
        1 => Just(Step::Abort),
        2 => Just(Step::Refresh),
        4 => (0..6_usize, any::<bool>())
            .prop_map(|(generation, keep)| Step::Drained { generation, keep }),
        2 => (0..NAMES.len(), any::<bool>()).prop_map(|(name, force)| Step::Retire { name, force }),
        2 => (0..30_usize).prop_map(Step::Bury),
        6 => (0..30_usize).prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..80)
}

/// Takes a step on both sides; false if the service has refused it.
///
/// Both must refuse or take it, and a listener's slot must have been free.
fn take(service: &mut Service, model: &mut Model, step: &Step) -> bool {
    match step {
        Step::Join {
            process,
            name,
            listeners,
        } => {
            let listeners = model.listeners(listeners);
            join(
                service,
                model,
                *process,
                name.map(|name| NAMES[name]),
                &listeners,
            )
        }
        Step::JoinMany { process, listeners } => {
            let listeners = model.listeners(&vec![Listener::New(0); *listeners]);
            join(service, model, *process, None, &listeners)
        }
        Step::Ready(process) => {
            service.ready(ProcessId(*process));
            model.ready(ProcessId(*process));
            true
        }
        Step::Leave(process) => {
            service.leave(ProcessId(*process));
            model.leave(|member| member.process == ProcessId(*process));
            true
        }
        Step::Lose(at) => {
            let slot = pick(&model.slots(), *at);
            slot.inspect(|slot| service.lose(*slot));
            model.leave(|member| Some(member.slot) == slot);
            true
        }
        Step::Flip { to, stale } => {
            let target = match to {
                To::Named(name) => Target::Named(NAMES[*name].into()),
                To::Latest => Target::Latest,
                To::Previous => Target::Previous,
            };
            let epoch = service.epoch() + u64::from(*stale);
            let change = service.begin_flip(&target, Some(epoch)).ok();
            assert_eq!(
                change.is_some(),
                model.flip(&target, *stale),
                "{step:?} in {model:#?}"
            );
            change.is_some()
        }
        Step::Commit => {
            service.commit();
            model.commit();
            true
        }
        Step::Abort => {
            service.abort();
            model.committing = None;
            true
        }
        Step::Refresh => {
            let change = service.begin_refresh();
            assert_eq!(change.is_some(), model.refresh(), "{step:?} in {model:#?}");
            change.is_some()
        }
        Step::Drained { generation, keep } => {
            let draining = model
                .generations
                .iter()
                .filter(|g| g.phase == Phase::Draining);
            let ids: Vec<GenerationId> = draining.map(|g| g.id).collect();
            if let Some(id) = pick(&ids, *generation) {
                service.drained(id, *keep);
                service.forget(id);
                model.drained(id, *keep);
            }
            true
        }
        Step::Retire { name, force } => {
            let retired = service.retire(NAMES[*name], *force).is_ok();
            assert_eq!(
                retired,
                model.retire(NAMES[*name], *force),
                "{step:?} in {model:#?}"
            );
            retired
        }
        Step::Bury(at) => {
            let slot = pick(&unneeded(service), *at);
            slot.inspect(|slot| service.bury(*slot));
            model.bury(slot);
            true
        }
        Step::Close(at) => {
            let slot = pick(&unneeded(service), *at);
            slot.inspect(|slot| service.closed(*slot));
            model.bury(slot);
            model.tombstones.retain(|member| Some(member.slot) != slot);
            true
        }
    }
}

fn join(
    service: &mut Service,
    model: &mut Model,
    process: u64,
    name: Option<&str>,
    listeners: &[(SocketAddr, u64)],
) -> bool {
    if listeners.is_empty() {
        // The agent has refused that before it comes here.
        return true;
    }
    let joined = service.join(ProcessId(process), name, listeners).ok();
    let slots = joined.as_ref().map(|joined| joined.slots.as_slice());
    let expected = model.join(
        ProcessId(process),
        name,
        listeners,
        slots.unwrap_or_default(),
    );
    assert_eq!(
        joined.is_some(),
        expected,
        "joining {name:?} with {listeners:?} in {model:#?}"
    );
    joined.is_some()
}

fn unneeded(service: &Service) -> Vec<Slot> {
    service
        .unneeded()
        .iter()
        .map(|member| member.slot)
        .collect()
}

fn pick<T: Copy>(from: &[T], at: usize) -> Option<T> {
    from.get(at.checked_rem(from.len())?).copied()
}

/// Whether the service is what the model says.
fn agree(service: &Service, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(service.generations(), model.generations.as_slice());
    prop_assert_eq!(service.tombstones(), model.tombstones.as_slice());
    prop_assert_eq!(service.working(), model.working);
    prop_assert_eq!(service.previous(), model.previous);
    prop_assert_eq!(service.epoch(), model.epoch);
    prop_assert_eq!(service.is_committing(), model.committing.is_some());
    Ok(())
}

/// What must hold of every service, however it came about.
fn sound(service: &Service, model: &Model) -> Result<(), TestCaseError> {
    let generations = service.generations();
    let working: Vec<_> = generations
        .iter()
        .filter(|g| g.phase == Phase::Working)
        .collect();
    prop_assert!(working.len() <= 1, "{} generations work", working.len());
    prop_assert_eq!(working.first().map(|g| g.id), service.working());
    let names: BTreeSet<_> = generations.iter().map(|g| g.name.as_str()).collect();
    prop_assert_eq!(
        names.len(),
        generations.len(),
        "two generations of one name"
    );

    let members = generations.iter().flat_map(|g| &g.members);
    let held: Vec<Slot> = members
        .chain(service.tombstones())
        .map(|member| member.slot)
        .collect();
    let distinct: BTreeSet<Slot> = held.iter().copied().collect();
    prop_assert_eq!(held.len(), distinct.len(), "two listeners share a slot");

    let changing = model.committing.iter().map(|change| &change.table);
    for table in changing.chain(&model.published) {
        let mut owners = BTreeSet::new();
        for slot in table.all_slots() {
            let owner = generations
                .iter()
                .find(|g| g.members.iter().any(|m| m.slot == slot));
            prop_assert!(
                owner.is_some(),
                "slot {} of a table is free or buried",
                slot
            );
            owners.extend(owner.map(|owner| owner.id));
            // Its servers have been told to close.
            let closes = owner.is_some_and(|owner| owner.phase == Phase::Drained);
            prop_assert!(
                !closes,
                "slot {} of a table belongs to a drained generation",
                slot
            );
        }
        prop_assert!(owners.len() <= 1, "a table mixes generations");
    }
    for generation in generations.iter().filter(|g| g.members.is_empty()) {
        let in_use = matches!(generation.phase, Phase::Working | Phase::Draining);
        prop_assert!(
            in_use,
            "{} has no listeners and is not forgotten",
            generation.name
        );
    }
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        // A failure prints its steps; no file beside the sources.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_service_stays_sound_whatever_happens(steps in steps()) {
            let (mut service, mut model) = (Service::new(), Model::default());
            for step in &steps {
                let before = service.clone();
                if !take(&mut service, &mut model, step) {
                    let (before, after) = (format!("{before:?}"), format!("{service:?}"));
                    prop_assert_eq!(before, after, "a refusal of {:?} changes something", step);
                }
                agree(&service, &model)?;
                sound(&service, &model)?;
            }
        }
    }
}
