//! A registration that the kernel refuses, or that fails half way (hazard A16).

use synflip_types::Slot;

use super::{build::*, effects::*, inputs::*};
use crate::{Happened, Input, PlanError, Reading};

fn kernel() -> PlanError {
    PlanError::Kernel { why: WHY.into() }
}

fn not_attached(process: crate::ProcessId) -> Input {
    Input::Attached {
        join: Some(process),
        result: Err(WHY.into()),
    }
}

fn not_filled(slot: u32) -> Input {
    Input::NotFilled {
        slot: Slot(slot),
        why: WHY.into(),
    }
}

#[test]
fn if_the_program_cannot_be_put_on_a_group_the_new_listeners_are_let_go() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20), (ALT, 21)]));
    // At its own endpoint there is nobody whom a close could harm.
    assert_eq!(
        scene.on(not_attached(B)),
        [
            note(1, listener(WEB, 20, 2).tombstone()),
            clear(2),
            close(2),
            refused(B, kernel()),
            read(&[0, 1]),
        ]
    );
    let look = readings(&[(0, pending(0, 0)), (1, pending(0, 0))]);
    assert_eq!(scene.on(look), [clear(1), close(1)]);
    // Nothing is left of it: neither generation nor process.
    assert_eq!(scene.phase(2), None);
    assert_eq!(scene.on(ready(B)), [refused(B, PlanError::NotMember)]);
    assert_eq!(scene.on(died(B)), []);
}

#[test]
fn if_a_listener_cannot_be_put_into_its_slot_all_are_tried_before_the_refusal() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20), (ALT, 21)]));
    assert_eq!(scene.on(not_filled(2)), []);
    assert_eq!(
        scene.on(attached(Some(B))),
        [
            note(1, listener(WEB, 20, 2).tombstone()),
            clear(2),
            close(2),
            refused(B, kernel()),
            read(&[0, 1]),
        ]
    );
}

#[test]
fn a_service_of_which_nothing_is_left_by_a_refusal_is_over() {
    let mut scene = Scene::new();
    scene.on(join(A, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(not_attached(A)),
        [clear(0), close(0), refused(A, kernel()), crate::Effect::End]
    );
}

#[test]
fn a_listener_that_nobody_else_holds_is_nobodys_again_when_its_return_is_refused() {
    let mut scene = Scene::v1_works();
    scene.on(died(A));
    scene.on(join(B, "v1", &[(WEB, 10), (ALT, 11)]));
    assert_eq!(
        scene.on(not_attached(B)),
        [
            clear(1),
            close(1),
            note(0, listener(WEB, 10, 1)),
            refused(B, kernel()),
            held(WEB),
        ]
    );
    // It can be tried again.
    let effects = scene.run(join(B, "v1", &[(WEB, 10), (ALT, 11)]));
    assert!(effects.contains(&registered(B, "v1")), "{effects:?}");
}

#[test]
fn a_listener_that_others_hold_stays_theirs_when_the_registration_is_refused() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(not_attached(B)),
        [note(0, listener(WEB, 10, 1).ready(A)), refused(B, kernel())]
    );
    assert_eq!(scene.on(ready(B)), [refused(B, PlanError::NotMember)]);
    assert_eq!(scene.on(died(B)), []);
}

#[test]
fn processes_that_share_a_new_listener_are_each_answered_for_themselves() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20)]));
    assert_eq!(
        scene.on(join(C, "v2", &[(WEB, 20)])),
        [keep(1, 20), note(1, listener(WEB, 20, 2).of(B)), attach(C)]
    );
    assert_eq!(scene.on(not_attached(B)), [refused(B, kernel())]);
    assert_eq!(
        scene.on(attached(Some(C))),
        [
            store(1),
            record(2, Happened::Registered { listeners: 1 }),
            registered(C, "v2"),
        ]
    );
}

#[test]
fn a_slot_that_is_not_filled_is_refused_to_all_who_share_the_listener() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20)]));
    scene.on(join(C, "v2", &[(WEB, 20)]));
    scene.on(not_filled(1));
    assert_eq!(scene.on(attached(Some(B))), [refused(B, kernel())]);
    assert_eq!(
        scene.on(attached(Some(C))),
        [
            note(1, listener(WEB, 20, 2).tombstone()),
            refused(C, kernel()),
            read(&[0, 1]),
        ]
    );
}

#[test]
fn what_a_process_holds_already_stays_its_own_when_it_may_not_have_more() {
    let mut scene = Scene::v1_works();
    scene.on(join(A, "v1", &[(WEB, 10), (ALT, 11)]));
    assert_eq!(
        scene.on(not_attached(A)),
        [clear(1), close(1), refused(A, kernel())]
    );
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            held(WEB),
            wake(START + 30_000),
        ]
    );
}

#[test]
fn a_refused_listener_that_is_the_first_of_its_bucket_stays_until_it_is_not() {
    // The process may have ended: then the agent's duplicate is the last one.
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20)]));
    scene.on(died(B));
    assert_eq!(
        scene.on(not_attached(B)),
        [
            note(1, listener(WEB, 20, 2).tombstone()),
            refused(B, kernel()),
            read(&[0, 1]),
        ]
    );
    let empty = pending(0, 0);
    assert_eq!(scene.on(readings(&[(1, empty), (0, empty)])), []);
    // The next registration's listener comes in front of it.
    scene.bucket(&[2, 1, 0]);
    let effects = scene.run(join(C, "v3", &[(WEB, 30)]));
    assert!(effects.ends_with(&[clear(1), close(1)]), "{effects:?}");
}

#[test]
fn a_refused_listener_that_comes_back_during_a_look_is_looked_at_again() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20)]));
    scene.on(not_attached(B));
    let empty = pending(0, 0);
    let effects = scene.on(readings(&[(0, empty), (1, pending(1, 0))]));
    assert!(effects.starts_with(&[lend(1, A)]), "{effects:?}");
    assert_eq!(scene.woken_on(), [read(&[0, 1])]);
    assert_eq!(scene.on(emptied(A, &[20])), []);
    assert_eq!(
        scene.on(readings(&[(0, empty), (1, empty)])),
        [read(&[0, 1])]
    );
    assert_eq!(
        scene.on(readings(&[(0, empty), (1, empty)])),
        [clear(1), close(1)]
    );
}

#[test]
fn a_reading_of_what_was_refused_is_none_of_what_comes_into_its_slot() {
    let mut scene = Scene::v1_drains();
    scene.on(join(A, "v1", &[(WEB, 10), (ALT, 11)]));
    assert_eq!(scene.woken_on(), [read(&[0, 2])]);
    scene.on(not_filled(2));
    let effects = scene.on(attached(Some(A)));
    assert!(effects.contains(&close(2)), "{effects:?}");
    scene.on(join(C, "v3", &[(WEB, 30)]));
    // Read before the slot was filled with the newcomer.
    scene.on(readings(&[(0, pending(1, 0)), (2, Reading::Gone)]));
    scene.on(attached(Some(C)));
    scene.on(ready(C));
    assert!(scene.service.listeners()[&Slot(2)].accepts());
}
