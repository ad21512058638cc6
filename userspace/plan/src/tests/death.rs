//! Deaths: of one process, of the last one with and without a successor; and what is held.

use super::{build::*, effects::*, inputs::*};
use crate::{Effect, Event, Happened, Reading, Rules};

#[test]
fn a_process_that_dies_is_left_out_of_the_table_and_its_queue_is_lent_to_a_sibling() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            publish(&table(1, 1, &[&[1]]), &[(1, 11)]),
        ]
    );
    assert_eq!(
        scene.on(published()),
        [
            record(1, Happened::Refreshed { listeners: 1 }),
            read(&[0, 1])
        ]
    );
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(2, 0))])),
        [lend(0, B), wake(START + 10)]
    );
}

#[test]
fn the_last_process_that_dies_is_succeeded_by_the_newest_generation_that_is_ready() {
    let mut scene = Scene::v2_is_ready();
    scene.joins_ready(C, "v3", &[(WEB, 30)]);
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            note(0, listener(WEB, 10, 1).leaving(2)),
            publish(&table(3, 2, &[&[2]]), &[(2, 30)]),
        ]
    );
    // A look for the drain, and one for the queue that nobody serves.
    scene.pending(0, 1, 0);
    scene.bucket(&[2, 1, 0]);
    let published = scene.on(published());
    assert_eq!(
        published,
        [
            note(2, listener(WEB, 30, 3).ready(C)),
            prepare(2, false),
            works(3, 2),
            tell(C, Event::Working),
            prepare(0, true),
            read(&[0, 1, 2]),
        ]
    );
    let effects = scene.carry_out(published);
    assert_eq!(
        effects[6..],
        [
            record(
                1,
                Happened::Draining {
                    queued: 1,
                    half_open: 0
                }
            ),
            lend(0, C),
            wake(START + 2),
        ]
    );
}

#[test]
fn a_generation_that_drains_or_stands_by_succeeds_if_no_other_is_ready() {
    for mut scene in [Scene::v1_drains(), Scene::v1_is_kept()] {
        let effects = scene.on(died(B));
        let v1 = publish(&table(1, 3, &[&[0]]), &[(0, 10)]);
        assert!(effects.contains(&v1), "{effects:?}");
    }
}

#[test]
fn a_generation_that_has_drained_succeeds_nobody() {
    // Its servers have been told to close: nobody waits for them, and the hold begins.
    let mut scene = Scene::v2_is_ready();
    scene.run(flip("v2"));
    assert_eq!(
        scene.on(died(B)),
        [
            note(1, listener(WEB, 20, 2)),
            record(2, Happened::Died),
            held(WEB),
            wake(START + 30_000),
        ]
    );
}

#[test]
fn without_a_successor_the_listener_stays_open_and_in_the_table_for_the_hold() {
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            held(WEB),
            wake(START + 30_000),
        ]
    );
    assert_eq!(scene.after(29_999), []);
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
}

#[test]
fn when_the_hold_is_over_all_is_closed_and_what_is_lost_is_counted() {
    let mut scene = Scene::v1_works();
    scene.run(died(A));
    scene.pending(0, 4, 1);
    assert_eq!(
        scene.woken(),
        [
            given_up(WEB),
            read(&[0]),
            clear(0),
            close_with(0, 5),
            Effect::End
        ]
    );
    assert_eq!(scene.now, START + 30_000);
    assert!(scene.service.is_over());
}

#[test]
fn whoever_registers_within_the_hold_ends_it_and_is_lent_the_queue() {
    let mut scene = Scene::v1_works();
    scene.run(died(A));
    scene.pending(0, 4, 0);
    scene.after(10_000);
    scene.joins(B, "v2", &[(WEB, 20)]);
    scene.after(40_000);
    let effects = scene.run(ready(B));
    assert!(effects.contains(&lend(0, B)), "{effects:?}");
    assert_eq!(scene.service.table(), Some(&table(2, 2, &[&[1]])));
}

#[test]
fn a_hold_begins_anew_when_who_came_dies_too() {
    let mut scene = Scene::v1_works();
    scene.pending(0, 1, 0);
    scene.run(died(A));
    scene.after(20_000);
    scene.joins(B, "v2", &[(WEB, 20)]);
    let effects = scene.run(died(B));
    assert!(effects.contains(&held(WEB)), "{effects:?}");
    assert_eq!(
        scene.service.places()[&endpoint(WEB)].unserved_since,
        Some(crate::Moment(scene.now))
    );
}

#[test]
fn a_process_that_is_not_ready_gets_nothing_when_the_last_that_was_dies() {
    let mut scene = Scene::v1_works();
    scene.joins(B, "v1", &[(WEB, 11)]);
    assert_eq!(
        scene.on(died(A)),
        [note(0, listener(WEB, 10, 1)), record(1, Happened::Died)]
    );
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
}

#[test]
fn the_death_of_a_generation_that_does_not_work_changes_nothing_for_connections() {
    let mut scene = Scene::v2_is_ready();
    scene.bucket(&[1, 0]);
    assert_eq!(
        scene.run(died(B)),
        [
            note(1, listener(WEB, 20, 2)),
            record(2, Happened::Died),
            read(&[0, 1]),
            // IPv4: the newest is in front.
            note(1, listener(WEB, 20, 2).tombstone()),
        ]
    );
}

#[test]
fn a_death_while_a_flip_is_published_is_seen_to_when_it_has_committed() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    assert_eq!(
        scene.on(died(B)),
        [note(1, listener(WEB, 20, 2)), record(2, Happened::Died)]
    );
    let effects = scene.on(published());
    let back = publish(&table(1, 3, &[&[0]]), &[(0, 10)]);
    assert!(effects.contains(&back), "{effects:?}");
}

#[test]
fn the_death_of_the_old_generation_while_it_drains_lends_its_queue() {
    let mut scene = Scene::v1_drains();
    scene.bucket(&[1, 0]);
    assert_eq!(
        scene.run(died(A)),
        [
            note(0, listener(WEB, 10, 1).leaving(2)),
            record(1, Happened::Died),
            read(&[0, 1]),
            lend(0, B),
        ]
    );
    // B has accepted it all; the drain ends with the listener.
    scene.pending(0, 0, 0);
    let effects = scene.run(emptied(B, &[10]));
    assert_eq!(
        without_wakes(effects),
        [
            read(&[0, 1]),
            clear(0),
            close(0),
            record(
                1,
                Happened::Drained {
                    kept: false,
                    after_ms: 0
                }
            ),
        ]
    );
}

#[test]
fn a_hold_that_ends_while_a_table_is_published_waits_for_it_without_being_called_again() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(ALT, 11)]);
    scene.run(died(B));
    scene.after(29_990);
    scene.joins(C, "v1", &[(WEB, 12)]);
    scene.on(ready(C));
    assert!(scene.service.is_committing());
    assert_eq!(scene.after(10), []);
    assert_eq!(scene.after(10), []);
    let effects = scene.on(published());
    assert!(effects.contains(&given_up(ALT)), "{effects:?}");
}

#[test]
fn what_becomes_due_at_the_moment_of_a_call_is_called_for_again() {
    // The table without the endpoint that is given up is published at once.
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(ALT, 11)]);
    scene.run(died(B));
    let effects = scene.woken();
    assert_eq!(scene.now, START + 30_000);
    let without = publish(&table(1, 1, &[&[0]]), &[(0, 10)]);
    if !effects.contains(&without) {
        assert_eq!(scene.wake, Some(scene.now));
        let effects = scene.woken();
        assert!(effects.contains(&without), "{effects:?}");
    }
    assert_eq!(scene.service.listeners().len(), 1);
}

#[test]
fn with_a_hold_of_nothing_it_ends_at_once() {
    let mut scene = Scene::with(Rules {
        hold: 0,
        ..Rules::default()
    });
    scene.joins_ready(A, "v1", &[(WEB, 10)]);
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Died),
            given_up(WEB),
            read(&[0]),
        ]
    );
    scene.on(readings(&[(0, Reading::Unknown)]));
    assert!(scene.service.is_over());
}
