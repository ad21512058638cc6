//! Giving a service back to plain SO_REUSEPORT.

use synflip_types::Slot;

use super::{build::*, effects::*, inputs::*};
use crate::{Answer, Effect, Event, Happened, Input, PlanError};

fn release() -> Input {
    let by = by(OPERATOR);
    Input::Release { by }
}

#[test]
fn the_slots_are_emptied_and_the_service_is_over() {
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(release()),
        [
            record(1, Happened::Released),
            tell(A, Event::Released),
            clear(0),
            Effect::Answer {
                to: by(OPERATOR),
                answer: Answer::Done,
            },
            Effect::End,
        ]
    );
    assert!(scene.service.is_over());
    // It is nobody's business any more.
    assert_eq!(scene.on(died(A)), []);
}

#[test]
fn while_others_are_there_it_is_refused() {
    let mut scene = Scene::v2_is_ready();
    let names = "v2".to_owned();
    assert_eq!(
        scene.on(release()),
        [refused(OPERATOR, PlanError::OthersThere { names })]
    );
    let mut scene = Scene::v1_drains();
    let names = "v1".to_owned();
    assert_eq!(
        scene.on(release()),
        [refused(OPERATOR, PlanError::OthersThere { names })]
    );
}

#[test]
fn where_somebody_has_died_it_is_refused() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.pending(1, 1, 0);
    scene.run(died(B));
    assert_eq!(
        scene.on(release()),
        [refused(OPERATOR, PlanError::NotAllAccept)]
    );
    let mut scene = Scene::new();
    scene.joins(A, "v1", &[(WEB, 10)]);
    assert_eq!(
        scene.on(release()),
        [refused(OPERATOR, PlanError::NobodyWorks)]
    );
}

#[test]
fn tombstones_go_first() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.run(died(A));
    while scene.wake.is_some_and(|at| at < START + 5_000) {
        scene.woken();
    }
    assert!(scene.service.listeners().contains_key(&Slot(0)));
    let effects = scene.on(release());
    assert_eq!(effects[..2], [clear(0), close(0)]);
    assert!(effects.contains(&clear(1)), "{effects:?}");
    assert!(!effects.contains(&close(1)), "{effects:?}");
}
