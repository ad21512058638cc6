//! A flip that an operator asks for.

use synflip_types::Epoch;

use super::{build::*, effects::*, inputs::*};
use crate::{Answer, DrainEnd, Effect, Event, Happened, PlanError};

#[test]
fn the_departure_of_the_old_generation_is_noted_before_the_table_is_published() {
    let mut scene = Scene::v2_is_ready();
    assert_eq!(
        scene.on(flip("v2")),
        [
            note(0, listener(WEB, 10, 1).ready(A).leaving(2)),
            publish(&table(2, 2, &[&[1]]), &[(1, 20)]),
        ]
    );
}

#[test]
fn servers_are_told_only_when_the_kernel_follows_the_new_table() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    assert_eq!(
        scene.on(published()),
        [
            note(1, listener(WEB, 20, 2).ready(B)),
            prepare(1, false),
            works(2, 2),
            tell(B, Event::Working),
            committed(Some(1), 2, 2, 1),
            prepare(0, true),
            tell(A, Event::Draining),
            read(&[0]),
        ]
    );
    assert_eq!(
        (scene.working(), scene.service.epoch()),
        (Some(2), Epoch(2))
    );
}

#[test]
fn the_first_flip_has_nobody_to_drain_and_who_waits_for_it_is_told_so() {
    // The kernel has refused the table of the flip that would have come by itself.
    let mut scene = Scene::new();
    scene.joins(A, "v1", &[(WEB, 10)]);
    scene.on(ready(A));
    scene.on(not_published(None));
    assert_eq!(
        scene.on(Flips::to("v1").wait(5_000).input()),
        [publish(&table(1, 1, &[&[0]]), &[(0, 10)])]
    );
    let end = DrainEnd::Drained;
    assert_eq!(
        scene.on(published()),
        [
            note(0, listener(WEB, 10, 1).ready(A)),
            prepare(0, false),
            works(1, 1),
            tell(A, Event::Working),
            committed(None, 1, 1, 1),
            answer(
                OPERATOR,
                Answer::DrainOver {
                    generation: None,
                    end
                }
            ),
        ]
    );
}

#[test]
fn latest_is_the_newest_that_can_take_connections() {
    let mut scene = Scene::v2_is_ready();
    scene.joins(C, "v3", &[(WEB, 30)]);
    assert_eq!(
        scene.on(flip("latest"))[1],
        publish(&table(2, 2, &[&[1]]), &[(1, 20)])
    );
}

#[test]
fn latest_is_refused_while_none_is_ready_and_where_it_works_already() {
    let mut scene = Scene::new();
    scene.joins(A, "v1", &[(WEB, 10)]);
    assert_eq!(
        scene.on(flip("latest")),
        [refused(OPERATOR, PlanError::NoneReady)]
    );
    scene.run(ready(A));
    let name = "v1".to_owned();
    assert_eq!(
        scene.on(flip("latest")),
        [refused(OPERATOR, PlanError::AlreadyWorking { name })]
    );
}

#[test]
fn a_generation_that_nobody_knows_is_refused_with_the_names_of_those_that_there_are() {
    let mut scene = Scene::v2_is_ready();
    let error = PlanError::NoSuchGeneration {
        name: "v9".into(),
        known: "v1, v2".into(),
    };
    assert_eq!(scene.on(flip("v9")), [refused(OPERATOR, error)]);
}

#[test]
fn a_generation_that_cannot_take_connections_is_refused_with_the_reason() {
    let not_ready = |name: &str, why| {
        let name = name.to_owned();
        [refused(OPERATOR, PlanError::NotReady { name, why })]
    };
    let mut scene = Scene::v1_works();
    scene.joins(B, "v2", &[(WEB, 20)]);
    let why = "its server has not said that it is ready";
    assert_eq!(scene.on(flip("v2")), not_ready("v2", why));
    scene.run(ready(B));
    scene.run(flip("v2"));
    let why = "it has drained and its servers are closing";
    assert_eq!(scene.on(flip("v1")), not_ready("v1", why));
    let mut scene = Scene::v1_drains();
    scene.on(died(A));
    let why = "no process that is ready accepts for it";
    assert_eq!(scene.on(flip("v1")), not_ready("v1", why));
}

#[test]
fn a_flip_is_refused_if_another_has_committed_since_the_caller_looked() {
    let mut scene = Scene::v2_is_ready();
    assert_eq!(
        scene.on(Flips::to("v2").if_epoch(0).input()),
        [refused(OPERATOR, PlanError::EpochMoved { seen: 0, now: 1 })]
    );
    assert_eq!(scene.on(Flips::to("v2").if_epoch(1).input()).len(), 2);
}

#[test]
fn a_flip_waits_for_no_other_flip() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    assert_eq!(
        scene.on(flip("v1")),
        [refused(OPERATOR, PlanError::FlipInProgress)]
    );
    assert_eq!(
        scene.on(retire("v2", false)),
        [refused(OPERATOR, PlanError::FlipInProgress)]
    );
}

#[test]
fn a_flip_waits_for_a_refresh_that_is_being_published() {
    let mut scene = Scene::v2_is_ready();
    scene.joins(C, "v1", &[(WEB, 11)]);
    scene.on(ready(C));
    assert_eq!(scene.on(flip("v2")), []);
    // A second one does not.
    assert_eq!(
        scene.on(flip("v2")),
        [refused(OPERATOR, PlanError::FlipInProgress)]
    );
    assert_eq!(
        scene.on(published()),
        [
            record(1, Happened::Refreshed { listeners: 2 }),
            note(0, listener(WEB, 10, 1).ready(A).leaving(2)),
            note(2, listener(WEB, 11, 1).ready(C).leaving(2)),
            publish(&table(2, 2, &[&[1]]), &[(1, 20)]),
        ]
    );
}

#[test]
fn a_flip_that_has_waited_for_a_refresh_is_refused_if_it_has_become_impossible() {
    let mut scene = Scene::v2_is_ready();
    scene.joins(C, "v1", &[(WEB, 11)]);
    scene.on(ready(C));
    scene.on(flip("v2"));
    scene.on(died(B));
    let effects = scene.on(not_published(None));
    let error = PlanError::NotReady {
        name: "v2".into(),
        why: "no process that is ready accepts for it",
    };
    assert_eq!(
        without_wakes(effects),
        [
            record(1, Happened::NotPublished { why: WHY.into() }),
            refused(OPERATOR, error),
            read(&[0, 1, 2]),
        ]
    );
}

#[test]
fn who_joins_the_old_generation_while_the_flip_commits_is_told_that_it_drains() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.run(join(C, "v1", &[(WEB, 11)]));
    let effects = scene.on(published());
    assert!(effects.contains(&tell(C, Event::Draining)), "{effects:?}");
    assert!(effects.contains(&prepare(2, true)), "{effects:?}");
}

#[test]
fn a_refused_table_leaves_all_as_it_was() {
    let mut scene = Scene::v2_is_ready();
    let before = scene.service.table().cloned();
    scene.on(Flips::to("v2").wait(1_000).input());
    let error = PlanError::Kernel { why: WHY.into() };
    assert_eq!(
        scene.on(not_published(None)),
        [
            refused(OPERATOR, error),
            record(2, Happened::NotPublished { why: WHY.into() }),
        ]
    );
    assert_eq!(
        (scene.working(), scene.service.epoch()),
        (Some(1), Epoch(1))
    );
    assert_eq!(scene.service.table().cloned(), before);
    // And the next one may succeed.
    assert!(matches!(scene.on(flip("v2"))[1], Effect::Publish { .. }));
}

#[test]
fn a_listener_that_is_gone_is_left_out_of_the_next_table() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v2", &[(WEB, 20)]);
    scene.joins_ready(C, "v2", &[(WEB, 21)]);
    scene.on(flip("v2"));
    scene.on(not_published(Some(1)));
    let effects = scene.on(flip("v2"));
    assert_eq!(effects[1], publish(&table(2, 2, &[&[2]]), &[(2, 21)]));
}

#[test]
fn a_refresh_that_is_refused_is_tried_again_after_pauses_that_grow() {
    let mut scene = Scene::v1_works();
    scene.joins(B, "v1", &[(WEB, 11)]);
    scene.on(ready(B));
    let again = [publish(&table(1, 1, &[&[0, 1]]), &[(0, 10), (1, 11)])];
    let refusal = record(1, Happened::NotPublished { why: WHY.into() });
    for pause in [100, 150, 225, 338] {
        let at = scene.now + pause;
        assert_eq!(scene.on(not_published(None)), [refusal.clone(), wake(at)]);
        assert_eq!(scene.woken_on(), again);
    }
    // Once it has succeeded the pauses begin anew.
    scene.on(published());
    scene.on(died(B));
    assert_eq!(
        scene.on(not_published(None)),
        [refusal, wake(scene.now + 100)]
    );
}
