//! An operator has a generation forgotten.

use super::{build::*, effects::*, inputs::*};
use crate::{DrainEnd, Event, Happened, Phase, PlanError};

#[test]
fn a_kept_generation_is_told_to_close_and_stays_until_it_has() {
    let mut scene = Scene::v1_is_kept();
    assert_eq!(
        scene.on(retire("v1", false)),
        [
            note(0, listener(WEB, 10, 1).ready(A).leaving(0)),
            record(1, Happened::Retired { force: false }),
            tell(A, Event::Retired),
            done(OPERATOR),
        ]
    );
    assert_eq!(scene.phase(1), Some(Phase::Drained));
    assert_eq!(
        scene.on(flip("previous")),
        [refused(OPERATOR, PlanError::NoPrevious)]
    );
    scene.bucket(&[1, 0]);
    scene.run(closed(A));
    assert_eq!(scene.phase(1), None);
}

#[test]
fn a_generation_that_has_never_worked_can_be_retired() {
    let mut scene = Scene::v2_is_ready();
    assert_eq!(
        scene.on(retire("v2", false)),
        [
            note(1, listener(WEB, 20, 2).ready(B).leaving(0)),
            record(2, Happened::Retired { force: false }),
            tell(B, Event::Retired),
            done(OPERATOR),
        ]
    );
    // It succeeds nobody any more.
    assert!(scene.on(died(A)).contains(&record(1, Happened::Died)));
    assert_eq!(scene.working(), Some(1));
    assert!(!scene.service.is_committing());
}

#[test]
fn the_working_generation_cannot_be_retired_even_by_force() {
    let mut scene = Scene::v2_is_ready();
    let name = "v1".to_owned();
    let error = PlanError::StillWorking { name };
    assert_eq!(scene.on(retire("v1", true)), [refused(OPERATOR, error)]);
}

#[test]
fn what_is_pending_on_a_drain_is_lost_only_by_force() {
    let mut scene = Scene::v2_is_ready();
    scene.pending(0, 3, 1);
    scene.run(Flips::to("v2").wait(60_000).input());
    let name = "v1".to_owned();
    let error = PlanError::StillDraining { name };
    assert_eq!(scene.on(retire("v1", false)), [refused(OPERATOR, error)]);
    assert_eq!(
        without_wakes(scene.on(retire("v1", true))),
        [
            drain_over(1, DrainEnd::Superseded),
            note(0, listener(WEB, 10, 1).ready(A).leaving(0)),
            record(1, Happened::Retired { force: true }),
            tell(A, Event::Retired),
            done(OPERATOR),
        ]
    );
    scene.bucket(&[1, 0]);
    assert_eq!(
        scene.run(closed(A)),
        [
            note(0, listener(WEB, 10, 1).leaving(0)),
            record(1, Happened::Closed),
            read(&[0, 1]),
            clear(0),
            close_with(0, 4),
        ]
    );
}

#[test]
fn by_force_what_a_death_has_left_behind_is_closed_at_once() {
    let mut scene = Scene::v1_drains();
    scene.bucket(&[1, 0]);
    scene.run(died(A));
    let effects = scene.run(retire("v1", true));
    assert_eq!(
        without_wakes(effects),
        [
            note(0, listener(WEB, 10, 1).leaving(0)),
            record(1, Happened::Retired { force: true }),
            done(OPERATOR),
            read(&[0, 1]),
            clear(0),
            close_with(0, 4),
        ]
    );
}

#[test]
fn an_unknown_generation_cannot_be_retired() {
    let mut scene = Scene::v1_works();
    let error = PlanError::NoSuchGeneration {
        name: "v2".into(),
        known: "v1".into(),
    };
    assert_eq!(scene.on(retire("v2", true)), [refused(OPERATOR, error)]);
}
