//! Generations that do not have the same endpoints (hazard A4).

use super::{build::*, effects::*, inputs::*};
use crate::{DrainEnd, Event, Happened, Phase, PlanError};

/// v1 works at both endpoints (A: slots 0 and 1); v2 is ready at WEB only (B: slot 2).
fn v2_lacks_one() -> Scene {
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (ALT, 11)]);
    scene.joins_ready(B, "v2", &[(WEB, 20)]);
    scene
}

/// v2 works (B: WEB, slot 2; C: ALT, slot 3), v1 is kept (A: slots 0 and 1).
fn v1_is_kept_at_both() -> Scene {
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (ALT, 11)]);
    scene.joins_ready(B, "v2", &[(WEB, 20)]);
    scene.joins_ready(C, "v2", &[(ALT, 21)]);
    scene.run(Flips::to("v2").keep().input());
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[2], &[3]])));
    scene
}

#[test]
fn a_flip_that_would_leave_an_endpoint_without_anybody_is_refused() {
    let mut scene = v2_lacks_one();
    let error = PlanError::EndpointMissing {
        name: "v2".into(),
        address: address(ALT).address(),
    };
    assert_eq!(scene.on(flip("v2")), [refused(OPERATOR, error)]);
}

#[test]
fn an_endpoint_that_is_dropped_is_in_no_table_until_somebody_who_works_has_it() {
    let mut scene = v2_lacks_one();
    let effects = scene.run(Flips::to("v2").drop(ALT).wait(60_000).input());
    assert!(
        effects.contains(&drain_over(1, DrainEnd::Drained)),
        "{effects:?}"
    );
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[2]])));
    // It was told to close; until it has, nothing of it comes back into the table.
    assert_eq!(scene.woken_on(), []);
    scene.run(closed(A));
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[2]])));
    scene.joins_ready(C, "v2", &[(ALT, 21)]);
    assert_eq!(
        scene.service.table().map(|table| table.slots(1).len()),
        Some(1)
    );
}

#[test]
fn if_the_kernel_refuses_the_flip_nothing_is_dropped() {
    let mut scene = v2_lacks_one();
    scene.on(Flips::to("v2").drop(ALT).input());
    scene.on(not_published(None));
    assert_eq!(
        scene.on(flip("v2")),
        [refused(
            OPERATOR,
            PlanError::EndpointMissing {
                name: "v2".into(),
                address: address(ALT).address(),
            }
        )]
    );
}

#[test]
fn only_an_endpoint_that_the_new_generation_lacks_can_be_dropped() {
    let mut scene = v2_lacks_one();
    let (name, address_of) = ("v2".to_owned(), |port| address(port).address());
    let error = PlanError::EndpointNotMissing {
        name,
        address: address_of(WEB),
    };
    let drop = Flips::to("v2").drop(WEB).input();
    assert_eq!(scene.on(drop), [refused(OPERATOR, error)]);
    let error = PlanError::NoSuchEndpoint {
        address: address_of(9),
        known: format!("{}, {}", address_of(WEB), address_of(ALT)),
    };
    let drop = Flips::to("v2").drop(9).input();
    assert_eq!(scene.on(drop), [refused(OPERATOR, error)]);
}

#[test]
fn a_rollback_leaves_an_endpoint_that_the_old_generation_lacks_with_the_new_one() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v2", &[(WEB, 20), (ALT, 21)]);
    scene.run(Flips::to("v2").keep().input());
    let effects = scene.run(Flips::to("previous").keep().wait(60_000).input());
    let endpoint = address(ALT);
    assert!(
        effects.contains(&record(1, Happened::Lacks { endpoint })),
        "{effects:?}"
    );
    // Nobody waits for a drain that does not end while v2 serves that endpoint.
    assert!(
        effects.contains(&drain_over(2, DrainEnd::Serving)),
        "{effects:?}"
    );
    assert_eq!(scene.service.table(), Some(&table(1, 3, &[&[0], &[2]])));
    assert_eq!(scene.phase(2), Some(Phase::Draining));
}

#[test]
fn a_flip_is_not_refused_for_an_endpoint_that_nobody_accepts_at_any_more() {
    // A4 (b): v1 is A at WEB and B at ALT; B has died.
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(ALT, 11)]);
    scene.joins_ready(C, "v2", &[(WEB, 20)]);
    scene.run(died(B));
    assert_eq!(
        scene.on(flip("v2")),
        [
            note(0, listener(WEB, 10, 1).ready(A).leaving(2)),
            note(1, listener(ALT, 11, 1).leaving(2)),
            // What comes to ALT waits where it did.
            publish(&table(2, 2, &[&[2], &[1]]), &[(2, 20), (1, 11)]),
        ]
    );
}

#[test]
fn a_successor_that_lacks_an_endpoint_takes_over_the_others() {
    // A4 (a).
    let mut scene = v2_lacks_one();
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            note(1, listener(ALT, 11, 1)),
            record(1, Happened::Died),
            note(0, listener(WEB, 10, 1).leaving(2)),
            note(1, listener(ALT, 11, 1).leaving(2)),
            publish(&table(2, 2, &[&[2], &[1]]), &[(2, 20), (1, 11)]),
            held(ALT),
        ]
    );
    scene.run(published());
    // The hold of the other ends as any.
    scene.now += 30_000;
    let effects = scene.run(crate::Input::Time);
    assert!(effects.contains(&given_up(ALT)), "{effects:?}");
    scene.woken();
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[2]])));
    assert_eq!(scene.phase(1), None);
}

#[test]
fn a_refresh_goes_on_although_an_endpoint_has_nobody() {
    // A4 (b): v1 is A and C at WEB, B at ALT. B dies, then A.
    let mut scene = Scene::v1_works();
    scene.joins_ready(C, "v1", &[(WEB, 12)]);
    scene.joins_ready(B, "v1", &[(ALT, 11)]);
    scene.run(died(B));
    let effects = scene.on(died(A));
    let refreshed = publish(&table(1, 1, &[&[1], &[2]]), &[(1, 12), (2, 11)]);
    assert!(effects.contains(&refreshed), "{effects:?}");
}

#[test]
fn a_generation_that_was_flipped_away_from_serves_an_endpoint_that_only_it_has() {
    // A4 (c): v2 has WEB and ALT, v1 WEB only; back to v1 when v2 dies.
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v2", &[(WEB, 20), (ALT, 21)]);
    scene.run(Flips::to("v2").keep().input());
    let effects = scene.on(died(B));
    let back = publish(&table(1, 3, &[&[0], &[2]]), &[(0, 10), (2, 21)]);
    assert!(effects.contains(&back), "{effects:?}");
}

#[test]
fn an_endpoint_without_anybody_goes_to_another_generation_that_accepts_there() {
    let mut scene = v1_is_kept_at_both();
    assert_eq!(
        scene.on(died(C)),
        [
            note(3, listener(ALT, 21, 2)),
            record(2, Happened::Died),
            publish(&table(2, 2, &[&[2], &[1]]), &[(2, 20), (1, 11)]),
        ]
    );
}

#[test]
fn a_generation_that_an_endpoint_goes_to_has_not_drained() {
    // v1 drains; v2's process at ALT dies, and v1 accepts there again.
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (ALT, 11)]);
    scene.joins_ready(B, "v2", &[(WEB, 20)]);
    scene.joins_ready(C, "v2", &[(ALT, 21)]);
    scene.pending(0, 1, 0);
    scene.run(Flips::to("v2").wait(60_000).input());
    scene.run(died(C));
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[2], &[1]])));
    // That nothing is pending at a moment says nothing: it is not even looked at.
    scene.pending(0, 0, 0);
    assert_eq!(scene.after(10_000), []);
    assert_eq!(scene.phase(1), Some(Phase::Draining));
    // v2 is whole again.
    scene.joins(D, "v2", &[(ALT, 22)]);
    let effects = scene.run(ready(D));
    assert!(
        effects.contains(&drain_over(1, DrainEnd::Drained)),
        "{effects:?}"
    );
}

#[test]
fn a_generation_that_an_endpoint_goes_to_cannot_be_retired_without_force() {
    let mut scene = v1_is_kept_at_both();
    scene.run(died(C));
    let error = PlanError::StillServing {
        name: "v1".into(),
        address: address(ALT).address(),
    };
    assert_eq!(scene.on(retire("v1", false)), [refused(OPERATOR, error)]);
    let effects = scene.on(retire("v1", true));
    assert!(effects.contains(&tell(A, Event::Retired)), "{effects:?}");
}

#[test]
fn an_endpoint_that_no_listener_has_any_more_does_not_count_as_one() {
    let mut scene = v2_lacks_one();
    scene.run(died(A));
    scene.now += 30_000;
    scene.run(crate::Input::Time);
    scene.woken();
    assert_eq!(scene.service.places().len(), 1);
}
