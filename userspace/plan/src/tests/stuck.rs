//! Listeners that nobody accepts from although their process lives (hazard A15).

use synflip_types::Slot;

use super::{build::*, effects::*, inputs::*};
use crate::{Effect, Happened, Input, Waiting};

fn probe(slot: u32) -> Effect {
    let slot = Slot(slot);
    Effect::Probe { slot }
}

fn is_stuck() -> Effect {
    let endpoint = address(WEB);
    record(1, Happened::Stuck { endpoint })
}

fn accepts(generation: u32) -> Effect {
    let endpoint = address(WEB);
    record(generation, Happened::AcceptsAgain { endpoint })
}

fn accepts_again(slot: u32, probes: u32) -> Input {
    let slot = Slot(slot);
    Input::AcceptsAgain { slot, probes }
}

/// A accepts from slot 0, and not from slot 1 (cookie 11), where three wait.
fn one_of_two_is_stuck() -> Scene {
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (WEB, 11)]);
    scene.pending(1, 3, 0);
    let effects = scene.run(waiting(1, 3, true));
    assert_eq!(effects[..2], [is_stuck(), lend(1, A)]);
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
    scene
}

/// The same, and what waited has been accepted by the loop of slot 0.
fn one_of_two_is_emptied() -> Scene {
    let mut scene = one_of_two_is_stuck();
    scene.pending(1, 0, 0);
    let effects = scene.run(emptied(A, &[11]));
    assert!(effects.contains(&probe(1)), "{effects:?}");
    scene.pending(1, 1, 0);
    scene
}

#[test]
fn its_queue_is_lent_and_the_table_leaves_it_out_while_a_sibling_accepts() {
    let mut scene = one_of_two_is_stuck();
    // While it is lent nothing is asked of it.
    scene.pending(1, 0, 0);
    assert_eq!(scene.wake, None);
    assert_eq!(scene.on(accepts_again(1, 0)), []);
}

#[test]
fn that_others_have_emptied_it_is_no_sign_that_its_own_process_accepts() {
    let scene = one_of_two_is_emptied();
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
}

#[test]
fn it_is_in_the_table_again_when_the_agents_own_connection_is_accepted() {
    let mut scene = one_of_two_is_emptied();
    assert_eq!(scene.on(waiting(1, 1, true)), []);
    // Nothing is looked at: the agent says so.
    assert_eq!(scene.wake, None);
    // It was empty, but that was before.
    assert_eq!(scene.on(accepts_again(1, 0)), []);
    let effects = scene.run(accepts_again(1, 1));
    assert!(effects.contains(&accepts(1)), "{effects:?}");
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0, 1]])));
}

#[test]
fn whoever_has_come_to_it_late_is_served_too() {
    let mut scene = one_of_two_is_emptied();
    scene.pending(1, 2, 0);
    let effects = scene.run(waiting(1, 2, true));
    assert_eq!(without_wakes(effects), [lend(1, A)]);
    // And it is asked again.
    scene.pending(1, 0, 0);
    let effects = scene.run(emptied(A, &[11]));
    assert!(effects.contains(&probe(1)), "{effects:?}");
}

#[test]
fn one_that_cannot_be_asked_is_asked_again() {
    let mut scene = one_of_two_is_emptied();
    scene.pending(1, 0, 0);
    scene.on(Input::NotProbed { slot: Slot(1) });
    let effects = scene.woken();
    assert!(effects.contains(&probe(1)), "{effects:?}");
}

#[test]
fn what_cannot_be_lent_waits_until_its_process_accepts_again() {
    // It accepts by calls that wait: O_NONBLOCK would make them fail.
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (WEB, 11)]);
    scene.pending(1, 3, 0);
    let kept = Waiting {
        lendable: false,
        ..waits(1, 3, true)
    };
    let effects = scene.run(Input::Waiting(vec![kept]));
    assert!(!effects.contains(&lend(1, A)), "{effects:?}");
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
    assert_eq!(scene.wake, None);
    let effects = scene.run(accepts_again(1, 0));
    assert!(effects.contains(&accepts(1)), "{effects:?}");
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0, 1]])));
}

#[test]
fn a_server_that_accepts_from_none_of_its_listeners_is_left_alone() {
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (WEB, 11)]);
    // One on which nobody waits is given a connection, in which case it is seen to wait too.
    assert_eq!(scene.on(waiting(0, 3, false)), [probe(1)]);
    let both = [waits(0, 3, false), waits(1, 1, false)].to_vec();
    assert_eq!(scene.on(Input::Waiting(both)), []);
    // Nor is the last one left out, whatever is said.
    scene.on(waiting(0, 3, true));
    scene.on(published());
    assert_eq!(without_wakes(scene.on(waiting(1, 3, true))), []);
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[1]])));
}

#[test]
fn a_lone_listener_and_one_that_nobody_knows_stay_where_they_are() {
    let mut scene = Scene::v1_works();
    assert_eq!(scene.on(waiting(0, 3, true)), []);
    assert_eq!(scene.on(waiting(9, 3, true)), []);
}

#[test]
fn what_waits_on_a_generation_that_drains_is_its_own() {
    let mut scene = Scene::v1_drains();
    scene.pending(0, 3, 0);
    assert_eq!(without_wakes(scene.on(waiting(0, 3, true))), []);
}

#[test]
fn what_a_dead_sibling_has_left_is_lent_although_nobody_accepts_just_now() {
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10)]);
    scene.joins_ready(B, "v1", &[(WEB, 11)]);
    scene.pending(1, 3, 0);
    scene.run(waiting(1, 3, true));
    scene.pending(0, 2, 0);
    let effects = scene.run(died(A));
    assert!(effects.contains(&lend(0, B)), "{effects:?}");
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[1]])));
    // When it accepts again, it is asked, and no longer said to be stuck.
    scene.pending(1, 0, 0);
    while scene.service.listeners()[&Slot(1)].stuck == Some(crate::Stuck::Seen) {
        scene.woken();
    }
    scene.run(accepts_again(1, 1));
    assert_eq!(scene.service.listeners()[&Slot(1)].stuck, None);
}
