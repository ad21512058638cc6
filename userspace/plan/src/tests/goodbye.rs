//! Leaving: a generation on which nothing is pending serves clients still.

use super::{build::*, effects::*, inputs::*};
use crate::{Departure, Event, Happened, Input, Phase, ProcessId};

fn serves(process: ProcessId, clients: u64) -> Input {
    Input::Serves { process, clients }
}

const DRAINED: Happened = Happened::Drained {
    kept: false,
    after_ms: 0,
};

/// v1 serves clients, and nothing is pending on its listener after a flip to v2.
fn v1_is_leaving() -> Scene {
    let mut scene = Scene::v2_is_ready();
    assert_eq!(scene.on(serves(A, 2)), []);
    scene.run(flip("v2"));
    assert_eq!(scene.phase(1), Some(Phase::Leaving));
    scene
}

#[test]
fn a_drained_generation_that_serves_clients_is_told_to_say_good_bye_to_them() {
    let mut scene = Scene::v2_is_ready();
    scene.on(serves(A, 2));
    scene.on(flip("v2"));
    scene.on(published());
    let (queued, half_open) = (0, 0);
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            record(1, Happened::Draining { queued, half_open }),
            record(1, DRAINED),
            tell(A, Event::Leaving),
        ]
    );
}

#[test]
fn it_is_told_to_close_when_the_last_client_is_gone() {
    let mut scene = v1_is_leaving();
    assert_eq!(scene.on(serves(A, 1)), []);
    assert_eq!(
        scene.on(serves(A, 0)),
        [record(1, Happened::ClientsGone), tell(A, Event::Drained)]
    );
    assert_eq!(scene.phase(1), Some(Phase::Drained));
}

#[test]
fn a_process_that_has_left_serves_nobody() {
    let (process, how) = (A, Departure::Closed);
    let mut scene = v1_is_leaving();
    let effects = scene.on(Input::Left { process, how });
    assert!(
        effects.contains(&record(1, Happened::ClientsGone)),
        "{effects:?}"
    );
}

#[test]
fn a_rollback_takes_a_leaving_generation_back() {
    let mut scene = v1_is_leaving();
    let effects = scene.run(flip("previous"));
    assert!(effects.contains(&tell(A, Event::Working)), "{effects:?}");
    assert_eq!(scene.working(), Some(1));
}

#[test]
fn if_the_new_generation_dies_a_leaving_one_succeeds() {
    let mut scene = v1_is_leaving();
    let effects = scene.run(died(B));
    assert!(effects.contains(&tell(A, Event::Working)), "{effects:?}");
}
