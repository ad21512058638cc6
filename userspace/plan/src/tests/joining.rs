//! Joining: a process comes with listeners.

use synflip_types::Slot;

use super::{build::*, effects::*, inputs::*};
use crate::{Happened, Input, PlanError};

#[test]
fn a_listener_is_put_into_its_slot_and_noted_before_the_program_is_on_its_group() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.on(join(A, "v1", &[(WEB, 10), (ALT, 11)])),
        [
            fill(0, 10),
            note(0, listener(WEB, 10, 1).of(A)),
            fill(1, 11),
            note(1, listener(ALT, 11, 1).of(A)),
            attach(A),
        ]
    );
}

#[test]
fn a_process_is_told_that_it_is_registered_only_when_the_program_is_on_the_groups() {
    let mut scene = Scene::new();
    scene.on(join(A, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(attached(Some(A))),
        [
            store(0),
            record(1, Happened::Registered { listeners: 1 }),
            registered(A, "v1"),
        ]
    );
}

#[test]
fn without_a_name_a_process_founds_a_generation_of_its_own() {
    let mut scene = Scene::new();
    let effects = scene.run(Input::Join(joining(A, &[(WEB, 10)])));
    assert_eq!(effects.last(), Some(&registered(A, "gen1")));
    let effects = scene.run(Input::Join(joining(B, &[(WEB, 20)])));
    assert_eq!(effects.last(), Some(&registered(B, "gen2")));
}

#[test]
fn a_generation_without_a_name_takes_none_that_is_in_use() {
    let mut scene = Scene::new();
    scene.joins(A, "gen2", &[(WEB, 10)]);
    let effects = scene.run(Input::Join(joining(B, &[(WEB, 20)])));
    assert_eq!(effects.last(), Some(&registered(B, "gen3")));
}

#[test]
fn with_the_name_of_a_generation_a_process_joins_it() {
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(join(B, "v1", &[(WEB, 11)])),
        [fill(1, 11), note(1, listener(WEB, 11, 1).of(B)), attach(B)]
    );
}

#[test]
fn a_slot_that_the_published_table_names_is_not_given_to_another_listener() {
    // The listener in slot 0 is closed, by whomever, and the table that names it cannot be
    // replaced: the kernel refuses.
    let mut scene = Scene::v1_works();
    scene.joins(B, "v2", &[(ALT, 20)]);
    scene.ends(A);
    assert!(!scene.service.listeners().contains_key(&Slot(0)));
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
    let effects = scene.on(join(C, "v3", &[(ALT, 30)]));
    assert_eq!(effects[0], fill(2, 30));
}

#[test]
fn latest_cannot_be_the_name_of_a_generation() {
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(join(B, "latest", &[(WEB, 20)])),
        [refused(B, PlanError::ReservedName)]
    );
}

#[test]
fn a_second_registration_waits_for_the_answer_to_the_first() {
    let mut scene = Scene::new();
    scene.on(join(A, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(join(A, "v1", &[(WEB, 11)])),
        [refused(A, PlanError::JoinInProgress)]
    );
}

#[test]
fn a_process_is_of_one_generation_only() {
    let mut scene = Scene::v1_works();
    let name = "v1".to_owned();
    let error = PlanError::OneGeneration { name };
    assert_eq!(scene.on(join(A, "v2", &[(WEB, 20)])), [refused(A, error)]);
}

#[test]
fn a_generation_that_was_flipped_away_from_cannot_be_joined_by_others() {
    let closed = |scene: &mut Scene| {
        let phase = scene.phase(1).unwrap();
        let name = "v1".to_owned();
        let error = PlanError::GenerationClosed { name, phase };
        assert_eq!(scene.on(join(C, "v1", &[(WEB, 30)])), [refused(C, error)]);
    };
    closed(&mut Scene::v1_drains());
    closed(&mut Scene::v1_is_kept());
    let mut scene = Scene::v2_is_ready();
    scene.run(flip("v2"));
    closed(&mut scene);
}

#[test]
fn a_refusal_changes_nothing() {
    let mut scene = Scene::v1_drains();
    let before = scene.service.clone();
    scene.on(join(C, "v1", &[(ALT, 30)]));
    scene.on(join(C, "latest", &[(ALT, 30)]));
    scene.on(flip("v2"));
    scene.on(flip("v9"));
    scene.on(retire("v2", true));
    scene.on(retire("v1", false));
    scene.on(ready(C));
    assert_eq!(scene.service, before);
}

#[test]
fn a_process_that_dies_while_it_registers_leaves_its_listener_to_the_closing_order() {
    // The agent's duplicate may be the last one, and the first of its hash bucket.
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(WEB, 20)]));
    assert_eq!(
        scene.on(died(B)),
        [note(1, listener(WEB, 20, 2)), record(2, Happened::Died)]
    );
    assert_eq!(
        scene.on(attached(Some(B))),
        [
            store(1),
            record(2, Happened::Registered { listeners: 1 }),
            registered(B, "v2"),
            read(&[0, 1]),
        ]
    );
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(0, 0))])),
        [note(1, listener(WEB, 20, 2).tombstone())]
    );
}

#[test]
fn nothing_is_left_of_who_dies_while_it_comes_back_to_a_listener_that_is_closed_meanwhile() {
    let mut scene = Scene::v2_is_ready();
    scene.bucket(&[1, 0]);
    scene.run(flip("v2"));
    scene.on(join(C, "v1", &[(WEB, 10)]));
    scene.run(closed(A));
    let look = scene.on(died(C));
    assert_eq!(look.last(), Some(&read(&[0, 1])));
    scene.carry_out(look);
    assert_eq!(
        scene.on(attached(Some(C))),
        [
            record(1, Happened::Back { listeners: 0 }),
            registered(C, "v1")
        ]
    );
    assert_eq!(scene.phase(1), None);
}
