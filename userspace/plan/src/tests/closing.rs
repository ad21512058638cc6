//! What becomes of a listener that nobody accepts from and no table names: it is lent, relayed,
//! moved by the kernel, closed, or kept as a tombstone.

use super::{build::*, effects::*, inputs::*};
use crate::{Effect, Happened, Phase, Reading, Rules};

/// v1 has two processes, each with its listener (A: slot 0, B: slot 1); A has died, and a look at
/// what it has left is under way.
fn one_of_two_has_died() -> Scene {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.on(died(A));
    assert_eq!(scene.on(published()).last(), Some(&read(&[0, 1])));
    scene
}

/// The same, but nobody of v1 can be lent anything.
fn one_of_two_adopted_has_died(rules: Rules) -> Scene {
    let mut scene = Scene::with(rules);
    scene.run(adopt(A, "v1", &[(WEB, 10)]));
    scene.run(adopt(B, "v1", &[(WEB, 11)]));
    scene.on(died(A));
    scene.on(published());
    scene
}

fn migrating() -> Rules {
    Rules {
        migrates: true,
        ..Rules::default()
    }
}

#[test]
fn a_queue_that_nobody_serves_is_lent_to_all_who_accept_at_the_address() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.joins_ready(C, "v1", &[(WEB, 12)]);
    scene.joins_ready(D, "v1", &[(ALT, 13)]);
    scene.on(died(A));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[
            (2, pending(0, 0)),
            (1, pending(0, 0)),
            (0, pending(1, 0)),
            (3, pending(0, 0)),
        ])),
        [lend(0, B), lend(0, C), wake(START + 10)]
    );
}

#[test]
fn who_has_been_lent_a_queue_is_not_lent_it_twice() {
    let mut scene = one_of_two_has_died();
    let full = readings(&[(1, pending(0, 0)), (0, pending(1, 0))]);
    scene.on(full.clone());
    assert_eq!(scene.after(10), [read(&[0, 1])]);
    assert_eq!(scene.on(full), [wake(START + 10 + 15)]);
}

#[test]
fn a_listener_is_not_closed_while_somebody_has_been_lent_it() {
    let mut scene = one_of_two_has_died();
    scene.on(readings(&[(1, pending(0, 0)), (0, pending(1, 0))]));
    scene.after(10);
    let empty = readings(&[(1, pending(0, 0)), (0, pending(0, 0))]);
    assert_eq!(scene.on(empty.clone()), [wake(START + 10 + 15)]);
    assert_eq!(scene.on(emptied(B, &[10])), [read(&[0, 1])]);
    assert_eq!(scene.on(empty), [clear(0), close(0)]);
}

#[test]
fn a_queue_that_has_filled_again_is_lent_again() {
    let mut scene = one_of_two_has_died();
    let full = readings(&[(1, pending(0, 0)), (0, pending(1, 0))]);
    scene.on(full.clone());
    scene.on(emptied(B, &[10]));
    assert_eq!(scene.on(full), [lend(0, B)]);
}

#[test]
fn what_was_lent_to_a_process_that_dies_is_lent_to_another() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.pending(0, 1, 0);
    scene.bucket(&[1, 2, 0]);
    scene.run(died(A));
    scene.joins_ready(C, "v2", &[(WEB, 20)]);
    scene.bucket(&[2, 1, 0]);
    let effects = scene.run(died(B));
    assert!(effects.contains(&lend(0, C)), "{effects:?}");
}

#[test]
fn a_half_open_handshake_is_waited_for() {
    // When it ends it is queued, and then it is lent.
    let mut scene = one_of_two_has_died();
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(0, 1))])),
        [wake(START + 10)]
    );
}

#[test]
fn a_listener_that_could_not_be_seen_is_lent_and_not_closed() {
    let mut scene = one_of_two_has_died();
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, Reading::Unknown)])),
        [lend(0, B), wake(START + 10)]
    );
}

#[test]
fn looks_come_after_pauses_that_grow_and_begin_anew_when_something_happens() {
    let mut scene = one_of_two_has_died();
    let waiting = readings(&[(1, pending(0, 0)), (0, pending(0, 1))]);
    scene.on(waiting.clone());
    for pause in [10, 15, 23, 35, 53, 80, 120, 180, 250, 250] {
        let before = scene.now;
        assert_eq!(scene.woken_on(), [read(&[0, 1])]);
        assert_eq!(scene.now - before, pause);
        scene.on(waiting.clone());
    }
    scene.pending(0, 0, 1);
    scene.joins(C, "v2", &[(ALT, 20)]);
    assert_eq!(scene.wake, Some(scene.now + 10));
}

#[test]
fn where_nobody_can_be_lent_a_queue_it_is_relayed() {
    let mut scene = one_of_two_adopted_has_died(Rules::default());
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(1, 0))])),
        [relay(0), wake(START + 10)]
    );
}

#[test]
fn where_nobody_can_be_lent_a_queue_the_kernel_moves_it_if_it_can() {
    // By closing the last descriptor.
    let mut scene = one_of_two_adopted_has_died(migrating());
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(1, 0))])),
        [clear(0), close(0)]
    );
}

#[test]
fn the_kernel_is_not_left_to_move_a_handshake_that_has_begun() {
    // One that ends during the close can be lost.
    let mut scene = one_of_two_adopted_has_died(migrating());
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(1, 1))])),
        [relay(0), wake(START + 10)]
    );
}

#[test]
fn the_kernel_is_not_left_to_move_what_can_be_lent() {
    let mut scene = Scene::with(migrating());
    scene.joins_ready(A, "v1", &[(WEB, 10)]);
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.on(died(A));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(1, 0))])),
        [lend(0, B), wake(START + 10)]
    );
}

#[test]
fn the_first_of_a_hash_bucket_stays_as_a_tombstone() {
    // IPv6: the oldest is in front.
    let mut scene = one_of_two_has_died();
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0)), (1, pending(0, 0))])),
        [note(0, listener(WEB, 10, 1).tombstone())]
    );
    // It is looked at no more by itself.
    assert_eq!(scene.after(3_600_000), []);
}

#[test]
fn the_first_of_a_hash_bucket_is_lent_before_it_becomes_a_tombstone() {
    let mut scene = one_of_two_has_died();
    assert_eq!(
        scene.on(readings(&[(0, pending(1, 0)), (1, pending(0, 0))])),
        [lend(0, B), wake(START + 10)]
    );
}

#[test]
fn a_tombstone_is_closed_when_another_listener_stands_in_front_of_it() {
    let mut scene = one_of_two_has_died();
    scene.on(readings(&[(0, pending(0, 0)), (1, pending(0, 0))]));
    scene.bucket(&[2, 0, 1]);
    assert_eq!(
        scene.run(join(C, "v2", &[(WEB, 20)]))[3..],
        [
            store(2),
            record(2, Happened::Registered { listeners: 1 }),
            registered(C, "v2"),
            read(&[0, 1, 2]),
            clear(0),
            close(0),
        ]
    );
}

#[test]
fn a_listener_that_comes_during_a_look_relieves_the_tombstone_by_the_next() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.run(died(A));
    assert_eq!(scene.service.listeners().len(), 2);
    // A look is under way, and a listener comes while it is.
    scene.on(join(C, "v2", &[(WEB, 20)]));
    let look = scene.on(attached(Some(C)));
    assert_eq!(look.last(), Some(&read(&[0, 1, 2])));
    scene.on(join(D, "v3", &[(WEB, 30)]));
    scene.on(attached(Some(D)));
    let all = |first: &[u32]| {
        let all: Vec<_> = first.iter().map(|slot| (*slot, pending(0, 0))).collect();
        readings(&all)
    };
    assert_eq!(scene.on(all(&[0, 1, 2])), [read(&[0, 1, 2, 3])]);
    assert_eq!(scene.on(all(&[3, 0, 1, 2])), [clear(0), close(0)]);
}

#[test]
fn a_tombstone_goes_with_the_last_listener_of_its_endpoint() {
    let mut scene = one_of_two_has_died();
    scene.on(readings(&[(0, pending(0, 0)), (1, pending(0, 0))]));
    assert_eq!(
        without_wakes(scene.ends(B)),
        [
            note(1, listener(WEB, 11, 1)),
            record(1, Happened::Closed),
            held(WEB),
            given_up(WEB),
            read(&[0, 1]),
            clear(1),
            close(1),
            clear(0),
            close(0),
            Effect::End,
        ]
    );
}

#[test]
fn listeners_are_closed_from_the_back_of_their_bucket() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.joins_ready(C, "v2", &[(WEB, 20)]);
    scene.bucket(&[2, 1, 0]);
    scene.run(flip("v2"));
    scene.on(closed(A));
    scene.on(closed(B));
    let empty = [(2, pending(0, 0)), (1, pending(0, 0)), (0, pending(0, 0))];
    scene.on(readings(&empty));
    let effects = scene.on(readings(&empty));
    assert_eq!(effects, [clear(1), close(1)]);
}

#[test]
fn what_has_become_unneeded_during_a_look_is_closed_only_after_the_next() {
    // It may have been read before the last connection came to it.
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.joins_ready(C, "v2", &[(WEB, 20)]);
    scene.run(flip("v2"));
    scene.on(closed(A));
    scene.on(closed(B));
    let order = [(2, pending(0, 0)), (1, pending(0, 0)), (0, pending(0, 0))];
    assert_eq!(
        scene.on(readings(&order)),
        [clear(0), close(0), read(&[1, 2])]
    );
    assert_eq!(
        scene.on(readings(&[(2, pending(0, 0)), (1, pending(0, 0))])),
        [clear(1), close(1)]
    );
    assert_eq!(scene.phase(1), None);
}

#[test]
fn nothing_is_closed_that_the_table_in_the_making_names() {
    let mut scene = Scene::v1_is_kept();
    scene.on(flip("v1"));
    assert_eq!(
        scene.on(died(A)),
        [
            note(0, listener(WEB, 10, 1).kept(2)),
            record(1, Happened::Died)
        ]
    );
    assert_eq!(scene.phase(1), Some(Phase::Standby));
}

#[test]
fn nothing_is_closed_while_a_table_is_being_published() {
    // A look that ends in the middle is done once more.
    let mut scene = one_of_two_has_died();
    scene.joins(C, "v1", &[(WEB, 12)]);
    scene.on(ready(C));
    assert!(scene.service.is_committing());
    assert_eq!(
        scene.on(readings(&[(1, pending(0, 0)), (0, pending(0, 0))])),
        []
    );
    assert_eq!(scene.on(published()).last(), Some(&read(&[0, 1, 2])));
}

#[test]
fn without_tombstones_the_first_is_closed_like_any() {
    let mut scene = Scene::with(Rules {
        tombstones: false,
        ..Rules::default()
    });
    scene.joins_ready(A, "v1", &[(WEB, 10)]);
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.on(died(A));
    scene.on(published());
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0)), (1, pending(0, 0))])),
        [clear(0), close(0)]
    );
}
