//! Readiness, adoption, and the first flip: when a generation gets connections for the first time.

use super::{build::*, effects::*, inputs::*};
use crate::{Event, Happened, PlanError};

#[test]
fn the_first_generation_that_is_ready_is_flipped_to_unasked() {
    let mut scene = Scene::new();
    scene.joins(A, "v1", &[(WEB, 10)]);
    assert_eq!(
        scene.on(ready(A)),
        [
            note(0, listener(WEB, 10, 1).ready(A)),
            record(1, Happened::Ready),
            done(A),
            publish(&table(1, 1, &[&[0]]), &[(0, 10)]),
        ]
    );
    assert_eq!(
        scene.on(published()),
        [
            note(0, listener(WEB, 10, 1).ready(A)),
            prepare(0, false),
            works(1, 1),
            tell(A, Event::Working),
        ]
    );
}

#[test]
fn a_second_generation_that_is_ready_waits_to_be_flipped_to() {
    let mut scene = Scene::v1_works();
    scene.joins(B, "v2", &[(WEB, 20)]);
    assert_eq!(
        scene.on(ready(B)),
        [
            note(1, listener(WEB, 20, 2).ready(B)),
            record(2, Happened::Ready),
            done(B),
        ]
    );
}

#[test]
fn a_further_process_of_the_working_generation_gets_connections_when_it_is_ready() {
    let mut scene = Scene::v1_works();
    scene.joins(B, "v1", &[(WEB, 11)]);
    assert_eq!(
        scene.on(ready(B)),
        [
            note(1, listener(WEB, 11, 1).ready(B)),
            record(1, Happened::Ready),
            done(B),
            publish(&table(1, 1, &[&[0, 1]]), &[(0, 10), (1, 11)]),
        ]
    );
    assert_eq!(
        scene.on(published()),
        [record(1, Happened::Refreshed { listeners: 2 })]
    );
}

#[test]
fn to_be_ready_again_changes_nothing_for_connections() {
    let mut scene = Scene::v1_works();
    assert_eq!(scene.on(ready(A)), [record(1, Happened::Ready), done(A)]);
}

#[test]
fn who_has_registered_nothing_cannot_be_ready() {
    let mut scene = Scene::v1_works();
    assert_eq!(scene.on(ready(B)), [refused(B, PlanError::NotMember)]);
}

#[test]
fn an_endpoint_that_only_a_ready_generation_has_goes_to_it_before_any_flip() {
    // The kernel's hash would give its connections to nobody else. In the table they are held for
    // a successor if it dies.
    let mut scene = Scene::v1_works();
    scene.joins(B, "v2", &[(WEB, 20), (ALT, 21)]);
    assert_eq!(
        scene.on(ready(B)),
        [
            note(1, listener(WEB, 20, 2).ready(B)),
            note(2, listener(ALT, 21, 2).ready(B)),
            record(2, Happened::Ready),
            done(B),
            publish(&table(1, 1, &[&[0], &[2]]), &[(0, 10), (2, 21)]),
        ]
    );
}

#[test]
fn an_adopted_process_is_ready_at_once_and_the_operator_hears_when_it_gets_connections() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.on(adopt(A, "v1", &[(WEB, 10)])),
        [
            fill(0, 10),
            note(0, listener(WEB, 10, 1).of(A).adopted()),
            attach(A)
        ]
    );
    assert_eq!(
        scene.on(attached(Some(A))),
        [
            store(0),
            record(1, Happened::Registered { listeners: 1 }),
            note(0, listener(WEB, 10, 1).ready(A).adopted()),
            record(1, Happened::Ready),
            publish(&table(1, 1, &[&[0]]), &[(0, 10)]),
        ]
    );
    // Nobody is told anything: it could not hear it.
    assert_eq!(
        scene.on(published()),
        [
            note(0, listener(WEB, 10, 1).ready(A).adopted()),
            prepare(0, false),
            works(1, 1),
            registered(OPERATOR, "v1"),
        ]
    );
}

#[test]
fn a_second_adopted_generation_waits_for_its_flip_as_any() {
    let mut scene = Scene::v1_works();
    scene.on(adopt(B, "v2", &[(WEB, 20)]));
    assert_eq!(
        scene.on(attached(Some(B))),
        [
            store(1),
            record(2, Happened::Registered { listeners: 1 }),
            note(1, listener(WEB, 20, 2).ready(B).adopted()),
            record(2, Happened::Ready),
            registered(OPERATOR, "v2"),
        ]
    );
}

#[test]
fn an_adopted_process_that_is_adopted_again_is_told_nothing() {
    let mut scene = Scene::new();
    scene.run(adopt(A, "v1", &[(WEB, 10)]));
    scene.on(adopt(A, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(attached(Some(A))),
        [
            store(0),
            record(1, Happened::Back { listeners: 1 }),
            prepare(0, false),
            record(1, Happened::Ready),
            registered(OPERATOR, "v1"),
        ]
    );
}
