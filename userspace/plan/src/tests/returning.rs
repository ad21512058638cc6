//! Returning: a process comes with listeners that are known.

use super::{build::*, effects::*, inputs::*};
use crate::{Event, Happened, Input, PlanError};

#[test]
fn a_process_that_comes_back_finds_its_listener_where_it_was() {
    let mut scene = Scene::v1_works();
    scene.run(died(A));
    assert_eq!(
        scene.on(join(B, "v1", &[(WEB, 10)])),
        [keep(0, 10), note(0, listener(WEB, 10, 1).of(B)), attach(B)]
    );
    assert_eq!(
        scene.on(attached(Some(B))),
        [
            store(0),
            record(1, Happened::Back { listeners: 1 }),
            prepare(0, false),
            registered(B, "v1"),
            tell(B, Event::Working),
        ]
    );
}

#[test]
fn who_is_back_gets_no_connections_before_it_says_that_it_accepts() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.run(died(A));
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[1]])));
    // Kept open by a second process, so that it can come back.
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.pending(0, 1, 0);
    scene.run(died(A));
    scene.run(join(C, "v1", &[(WEB, 10)]));
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[1]])));
    scene.run(ready(C));
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0, 1]])));
}

#[test]
fn who_comes_back_to_a_drain_is_told_so_and_the_drain_goes_on() {
    let mut scene = Scene::v1_drains();
    scene.run(died(A));
    scene.on(join(C, "v1", &[(WEB, 10)]));
    assert_eq!(
        scene.on(attached(Some(C))),
        [
            store(0),
            record(1, Happened::Back { listeners: 1 }),
            prepare(0, true),
            registered(C, "v1"),
            tell(C, Event::Draining),
        ]
    );
}

#[test]
fn a_new_listener_of_a_generation_that_drains_is_prepared_for_it_too() {
    let mut scene = Scene::v1_drains();
    scene.run(died(A));
    scene.on(join(C, "v1", &[(WEB, 10), (WEB, 12)]));
    let effects = scene.on(attached(Some(C)));
    assert_eq!(effects[3..5], [prepare(2, true), prepare(0, true)]);
}

#[test]
fn a_known_listener_decides_the_generation_if_nobody_else_has_it() {
    let mut scene = Scene::v1_works();
    scene.run(died(A));
    let effects = scene.run(join(B, "v2", &[(WEB, 10)]));
    assert!(effects.contains(&registered(B, "v1")), "{effects:?}");
}

#[test]
fn a_listener_that_a_living_process_holds_cannot_be_taken_to_another_generation() {
    let mut scene = Scene::v1_works();
    let error = PlanError::RegisteredAlready {
        address: address(WEB).address(),
        generation: "v1".into(),
    };
    assert_eq!(scene.on(join(B, "v2", &[(WEB, 10)])), [refused(B, error)]);
}

#[test]
fn listeners_of_two_generations_cannot_come_together() {
    let mut scene = Scene::v1_drains();
    scene.pending(1, 1, 0);
    scene.run(died(A));
    scene.run(died(B));
    let error = PlanError::OfTwoGenerations {
        address: address(WEB).address(),
    };
    let both = Input::Join(joining(C, &[(WEB, 10), (WEB, 20)]));
    assert_eq!(scene.on(both), [refused(C, error)]);
}

#[test]
fn several_processes_of_one_generation_may_hold_the_same_listener() {
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(join(B, "v1", &[(WEB, 10)])),
        [
            keep(0, 10),
            note(0, listener(WEB, 10, 1).ready(A)),
            attach(B)
        ]
    );
    scene.run(attached(Some(B)));
    // Ready by one of them, it goes on taking connections.
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
}

#[test]
fn a_shared_listener_goes_on_when_one_of_its_processes_dies() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 10)]);
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1).ready(B)),
            record(1, Happened::Died),
        ]
    );
    assert_eq!(
        scene.on(died(B)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            held(WEB),
            wake(START + 30_000),
        ]
    );
}

#[test]
fn a_shared_listener_takes_no_connections_when_only_those_are_left_that_are_not_ready() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(C, "v1", &[(WEB, 11)]);
    scene.run(join(B, "v1", &[(WEB, 10)]));
    scene.run(died(A));
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[1]])));
}

#[test]
fn a_server_that_comes_back_to_its_tombstone_gets_a_new_slot() {
    // IPv6: the older listener is in front. v1 has drained and closed.
    let mut scene = Scene::v2_is_ready();
    scene.run(flip("v2"));
    scene.run(closed(A));
    assert_eq!(
        scene.on(join(A, "v3", &[(WEB, 10)])),
        [
            clear(0),
            close(0),
            fill(2, 10),
            note(2, listener(WEB, 10, 3).of(A)),
            attach(A),
        ]
    );
}

#[test]
fn an_adopted_process_that_comes_back_to_its_tombstone_is_ready_at_once() {
    let mut scene = Scene::v2_is_ready();
    scene.run(flip("v2"));
    scene.run(closed(A));
    scene.on(adopt(C, "v3", &[(WEB, 10)]));
    assert_eq!(
        scene.on(attached(Some(C))),
        [
            store(2),
            record(3, Happened::Registered { listeners: 1 }),
            note(2, listener(WEB, 10, 3).ready(C).adopted()),
            record(3, Happened::Ready),
            registered(OPERATOR, "v3"),
        ]
    );
}

#[test]
fn a_listener_that_was_shut_down_and_listens_again_is_taken_up_as_a_new_one() {
    // The kernel takes a listener out of its slot when it is shut down.
    let mut scene = Scene::v1_works();
    scene.joins(B, "v1", &[(WEB, 11)]);
    scene.on(ready(B));
    scene.on(not_published(Some(0)));
    assert_eq!(
        scene.on(join(A, "v1", &[(WEB, 10)])),
        [
            clear(0),
            close(0),
            fill(2, 10),
            note(2, listener(WEB, 10, 1).of(A)),
            attach(A),
        ]
    );
}
