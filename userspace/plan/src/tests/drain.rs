//! The drain: when nothing is pending on the old listeners, and nothing can come any more.

use super::{build::*, effects::*, inputs::*};
use crate::{DrainEnd, Event, Happened, Input, PlanError, Reading};

fn draining(queued: u64, half_open: u64) -> Happened {
    Happened::Draining { queued, half_open }
}

const DRAINED: Happened = drained_after(0);

const fn drained_after(after_ms: u64) -> Happened {
    Happened::Drained {
        kept: false,
        after_ms,
    }
}

#[test]
fn nothing_pending_at_the_first_look_after_the_commit_ends_the_drain() {
    // The publication has put the program on the groups and waited for a grace period.
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            record(1, draining(0, 0)),
            record(1, DRAINED),
            tell(A, Event::Drained),
        ]
    );
}

#[test]
fn a_queued_connection_keeps_the_drain_open() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(1, 0))])),
        [record(1, draining(1, 0)), wake(START + 2)]
    );
}

#[test]
fn a_half_open_handshake_keeps_the_drain_open() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 1))])),
        [record(1, draining(0, 1)), wake(START + 2)]
    );
}

#[test]
fn a_listener_that_could_not_be_seen_keeps_the_drain_open() {
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, Reading::Unknown)])),
        [record(1, draining(0, 0)), wake(START + 2)]
    );
    assert_eq!(scene.after(2), [read(&[0])]);
    // Not even read.
    assert_eq!(scene.on(readings(&[])), [wake(START + 2 + 3)]);
}

#[test]
fn looks_at_a_drain_come_after_pauses_that_grow_to_a_tenth_of_a_second() {
    let mut scene = Scene::v1_drains();
    for pause in [2, 3, 5, 8, 12, 18, 27, 41, 62, 93, 100, 100] {
        let before = scene.now;
        assert_eq!(scene.woken_on(), [read(&[0])]);
        assert_eq!(scene.now - before, pause);
        scene.on(readings(&[(0, pending(1, 0))]));
    }
}

#[test]
fn nothing_pending_later_on_counts_only_after_the_program_has_been_attached_again() {
    // A member of the group may have taken the program away, and then connections come to the old
    // listeners too.
    let mut scene = Scene::v1_drains();
    assert_eq!(scene.after(2), [read(&[0])]);
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [attach_again(), crate::Effect::Barrier, read(&[0])]
    );
    scene.on(attached(None));
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [record(1, drained_after(2)), tell(A, Event::Drained)]
    );
}

#[test]
fn nothing_pending_does_not_count_if_the_program_could_not_be_attached() {
    let mut scene = Scene::v1_drains();
    scene.after(2);
    scene.on(readings(&[(0, pending(0, 0))]));
    let result = Err(WHY.into());
    assert_eq!(
        scene.on(Input::Attached { join: None, result }),
        [wake(START + 2 + 100)]
    );
    // Tried again, but not at once.
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [wake(START + 2 + 3)]
    );
    assert_eq!(
        scene.after(3),
        [
            attach_again(),
            crate::Effect::Barrier,
            read(&[0]),
            wake(START + 2 + 100),
        ]
    );
}

#[test]
fn a_connection_that_comes_to_an_empty_old_listener_shows_that_the_program_is_gone() {
    let mut scene = Scene::v2_is_ready();
    scene.joins_ready(C, "v1", &[(WEB, 11)]);
    scene.on(flip("v2"));
    scene.on(published());
    scene.on(readings(&[(0, pending(0, 0)), (2, pending(0, 1))]));
    scene.after(2);
    assert_eq!(
        scene.on(readings(&[(0, pending(1, 0)), (2, pending(0, 1))])),
        [
            record(1, Happened::ProgramGone),
            attach_again(),
            crate::Effect::Barrier,
            read(&[0, 2]),
        ]
    );
}

#[test]
fn a_listener_that_was_shut_down_holds_no_drain_up_and_is_closed() {
    let mut scene = Scene::v1_drains();
    scene.after(2);
    assert_eq!(
        scene.on(readings(&[(0, Reading::Stopped)])),
        [
            note(0, listener(WEB, 10, 1).leaving(2)),
            attach_again(),
            crate::Effect::Barrier,
            read(&[0, 1]),
        ]
    );
    scene.on(attached(None));
    assert_eq!(
        scene.on(readings(&[(0, Reading::Stopped), (1, pending(0, 0))])),
        [
            record(1, drained_after(2)),
            tell(A, Event::Drained),
            clear(0),
            close(0)
        ]
    );
}

#[test]
fn a_generation_that_is_kept_stands_by_when_it_has_drained() {
    let mut scene = Scene::v2_is_ready();
    assert_eq!(
        scene.on(Flips::to("v2").keep().input()),
        [
            note(0, listener(WEB, 10, 1).ready(A).kept(2)),
            publish(&table(2, 2, &[&[1]]), &[(1, 20)]),
        ]
    );
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            record(1, draining(0, 0)),
            record(
                1,
                Happened::Drained {
                    kept: true,
                    after_ms: 0
                }
            ),
            tell(A, Event::Standby),
        ]
    );
}

#[test]
fn an_adopted_generation_stands_by_until_its_process_has_ended() {
    // Hazard A18: it was told nothing, it goes on accepting, and it is a way back.
    let mut scene = Scene::new();
    scene.run(adopt(A, "v1", &[(WEB, 10)]));
    scene.run(adopt(B, "v2", &[(WEB, 20)]));
    scene.on(Flips::to("v2").wait(1_000).input());
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            record(1, draining(0, 0)),
            still_draining(1),
            record(
                1,
                Happened::Drained {
                    kept: true,
                    after_ms: 0
                }
            ),
            drain_over(1, DrainEnd::Standby),
        ]
    );
    let effects = scene.on(died(B));
    let v1 = publish(&table(1, 3, &[&[0]]), &[(0, 10)]);
    assert!(effects.contains(&v1), "{effects:?}");
}

#[test]
fn who_waits_hears_at_each_look_that_the_drain_goes_on_and_then_how_it_has_ended() {
    let mut scene = Scene::v2_is_ready();
    scene.on(Flips::to("v2").wait(1_000).input());
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(1, 0))])),
        [
            record(1, draining(1, 0)),
            still_draining(1),
            wake(START + 2)
        ]
    );
    scene.after(2);
    scene.on(readings(&[(0, pending(0, 0))]));
    scene.on(attached(None));
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            still_draining(1),
            record(1, drained_after(2)),
            tell(A, Event::Drained),
            drain_over(1, DrainEnd::Drained),
        ]
    );
}

#[test]
fn a_deadline_ends_the_waiting_and_not_the_drain() {
    let mut scene = Scene::v2_is_ready();
    scene.pending(0, 3, 1);
    scene.run(Flips::to("v2").wait(30).input());
    let mut last = Vec::new();
    while scene.now < START + 30 {
        last = scene.woken();
    }
    assert_eq!(
        last,
        [
            record(
                1,
                Happened::DeadlinePassed {
                    queued: 3,
                    half_open: 1
                }
            ),
            drain_over(1, DrainEnd::DeadlinePassed),
            read(&[0]),
            wake(scene.wake.unwrap()),
        ]
    );
    // 2, 5, 10, 18, 30: the look that was due at the deadline comes with it.
    scene.pending(0, 0, 0);
    let effects = scene.woken();
    assert!(effects.contains(&tell(A, Event::Drained)), "{effects:?}");
}

#[test]
fn a_rollback_ends_the_waiting_for_the_drain_of_what_works_again() {
    let mut scene = Scene::v2_is_ready();
    scene.pending(0, 3, 1);
    scene.run(Flips::to("v2").wait(60_000).input());
    assert_eq!(
        without_wakes(scene.on(flip("previous"))),
        [
            note(1, listener(WEB, 20, 2).ready(B).leaving(3)),
            publish(&table(1, 3, &[&[0]]), &[(0, 10)]),
        ]
    );
    assert_eq!(
        scene.on(published()),
        [
            drain_over(1, DrainEnd::Superseded),
            note(0, listener(WEB, 10, 1).ready(A)),
            prepare(0, false),
            works(1, 3),
            tell(A, Event::Working),
            committed(Some(2), 1, 3, 1),
            prepare(1, true),
            tell(B, Event::Draining),
            read(&[1]),
        ]
    );
}

#[test]
fn a_drain_does_not_end_while_the_flip_back_is_being_published() {
    // Connections come to it before that is known to have committed.
    let mut scene = Scene::v2_is_ready();
    scene.on(flip("v2"));
    scene.on(published());
    scene.on(flip("previous"));
    assert_eq!(scene.on(readings(&[(0, pending(0, 0))])), []);
    // Refused, the drain goes on, and needs the program attached again.
    let error = PlanError::Kernel { why: WHY.into() };
    assert_eq!(
        scene.on(not_published(None)),
        [
            refused(OPERATOR, error),
            record(1, Happened::NotPublished { why: WHY.into() }),
            attach_again(),
            crate::Effect::Barrier,
            read(&[0]),
        ]
    );
    scene.on(attached(None));
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))])),
        [
            record(1, draining(0, 0)),
            record(1, DRAINED),
            tell(A, Event::Drained),
        ]
    );
}

#[test]
fn there_is_no_way_back_to_a_generation_that_has_drained() {
    let mut scene = Scene::v2_is_ready();
    scene.run(flip("v2"));
    assert_eq!(
        scene.on(flip("previous")),
        [refused(OPERATOR, PlanError::NoPrevious)]
    );
}

#[test]
fn a_kept_generation_is_flipped_back_to() {
    let mut scene = Scene::v1_is_kept();
    assert_eq!(
        scene.on(flip("previous")),
        [
            note(1, listener(WEB, 20, 2).ready(B).leaving(3)),
            publish(&table(1, 3, &[&[0]]), &[(0, 10)]),
        ]
    );
}

#[test]
fn a_drain_of_which_no_listener_is_left_is_over() {
    // v1's queue is reset with its listener, by force.
    let mut scene = Scene::v2_is_ready();
    scene.pending(0, 3, 1);
    scene.run(Flips::to("v2").wait(60_000).input());
    scene.service.listeners.remove(&synflip_types::Slot(0));
    assert_eq!(
        without_wakes(scene.on(Input::Time)),
        [
            record(1, DRAINED),
            tell(A, Event::Drained),
            drain_over(1, DrainEnd::Drained),
        ]
    );
}
