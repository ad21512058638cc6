//! Leaving on purpose (hazards A3 and A12), and strangers in the reuseport group (A1).

use synflip_types::Slot;

use super::{build::*, effects::*, inputs::*};
use crate::{Effect, Event, Happened, Input};

fn stranger(port: u16, present: bool) -> Input {
    let endpoint = endpoint(port);
    Input::Strangers { endpoint, present }
}

fn strangers(port: u16) -> Effect {
    let (generation, endpoint) = (None, endpoint(port));
    let what = Happened::Strangers { endpoint };
    Effect::Record { generation, what }
}

#[test]
fn what_the_last_process_closes_on_purpose_is_held_for_its_successor() {
    // Hazard A12: a supervisor's restart begins with SIGTERM.
    let mut scene = Scene::v1_works();
    let mut closes = scene.clone();
    assert_eq!(
        without_wakes(closes.run(closed(A))),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Closed),
            held(WEB),
        ]
    );
    closes.joins_ready(B, "v2", &[(WEB, 20)]);
    assert_eq!(closes.working(), Some(2));
    assert_eq!(
        without_wakes(scene.ends(A)),
        [
            note(0, listener(WEB, 10, 1)),
            record(1, Happened::Closed),
            held(WEB),
            given_up(WEB),
            read(&[0]),
            clear(0),
            close(0),
            Effect::End,
        ]
    );
}

#[test]
fn who_leaves_on_purpose_does_not_end_the_hold_of_another_that_has_died() {
    // Hazard A3: v1 is killed with a full queue; v2 fails its own check and stops.
    let mut scene = Scene::v1_works();
    scene.pending(0, 8, 0);
    scene.run(died(A));
    scene.joins(B, "v2", &[(WEB, 20)]);
    scene.bucket(&[0, 1]);
    let effects = scene.run(closed(B));
    assert_eq!(
        without_wakes(effects),
        [
            note(1, listener(WEB, 20, 2)),
            record(2, Happened::Closed),
            held(WEB),
            read(&[0, 1]),
            clear(1),
            close(1),
        ]
    );
    assert_eq!(scene.service.table(), Some(&table(1, 1, &[&[0]])));
}

#[test]
fn an_endpoint_that_nobody_comes_back_to_is_given_up_and_the_others_go_on() {
    let mut scene = Scene::v1_works();
    scene.joins_ready(B, "v1", &[(ALT, 11)]);
    let effects = scene.ends(B);
    assert!(effects.contains(&given_up(ALT)), "{effects:?}");
    while scene.service.table() != Some(&table(1, 1, &[&[0]])) {
        scene.woken();
    }
    assert_eq!(scene.service.places().len(), 1);
    assert_eq!(scene.now, START + scene.service.rules().hold);
}

#[test]
fn where_a_stranger_listens_nothing_is_held_back_from_it() {
    // Hazard A1: the supervisor has restarted the server, and nobody has it adopted.
    let mut scene = Scene::v1_works();
    scene.run(died(A));
    scene.after(500);
    assert_eq!(
        scene.on(stranger(WEB, true)),
        [
            strangers(WEB),
            attach_again(),
            Effect::Barrier,
            given_up(WEB),
            read(&[0])
        ]
    );
    assert_eq!(
        scene.on(readings(&[(0, pending(3, 0))])),
        [clear(0), close_with(0, 3), Effect::End]
    );
}

#[test]
fn where_a_stranger_comes_the_program_is_put_back_and_nothing_else_changes() {
    // It may have brought a program of its own, or taken ours away: nobody is told.
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(stranger(WEB, true)),
        [strangers(WEB), attach_again(), Effect::Barrier]
    );
    assert_eq!(scene.on(stranger(ALT, true)), []);
    // It has gone again, and then the server dies.
    scene.on(stranger(WEB, false));
    assert!(scene.on(died(A)).contains(&held(WEB)));
}

#[test]
fn a_process_that_ends_after_its_generation_has_drained_leaves_nothing_behind() {
    let mut scene = Scene::v2_is_ready();
    scene.bucket(&[1, 0]);
    scene.run(flip("v2"));
    assert_eq!(
        scene.run(closed(A)),
        [
            note(0, listener(WEB, 10, 1).leaving(2)),
            record(1, Happened::Closed),
            read(&[0, 1]),
            clear(0),
            close(0),
        ]
    );
    assert_eq!((scene.phase(1), scene.service.previous()), (None, None));
}

#[test]
fn who_has_left_is_told_nothing_any_more() {
    let mut scene = Scene::v2_is_ready();
    scene.joins_ready(C, "v1", &[(WEB, 11)]);
    scene.run(closed(A));
    scene.on(flip("v2"));
    let effects = scene.on(published());
    assert!(effects.contains(&tell(C, Event::Draining)), "{effects:?}");
    assert!(!effects.contains(&tell(A, Event::Draining)), "{effects:?}");
}

fn abandoned(slots: &[u32], brought: u64) -> Input {
    let slots = slots.iter().copied().map(Slot).collect();
    Input::Abandoned { slots, brought }
}

const ONE_CLOSED: Happened = Happened::Abandoned { listeners: 1 };

#[test]
fn a_listener_that_a_living_process_has_closed_is_out_of_the_table_and_its_queue_is_lent() {
    // Hazards A8 and A19: A holds two listeners, and closes one of them.
    let mut scene = Scene::new();
    scene.joins_ready(A, "v1", &[(WEB, 10), (WEB, 11)]);
    scene.pending(1, 3, 0);
    assert_eq!(
        without_wakes(scene.on(abandoned(&[1], 2))),
        [
            note(1, listener(WEB, 11, 1)),
            record(1, ONE_CLOSED),
            publish(&table(1, 1, &[&[0]]), &[(0, 10)]),
        ]
    );
    let effects = scene.run(published());
    assert!(effects.contains(&lend(1, A)), "{effects:?}");
}

#[test]
fn if_all_are_closed_a_generation_that_is_ready_succeeds() {
    // Hazard A20: the old server is stopped before the flip, and lives on for its clients.
    let mut scene = Scene::v2_is_ready();
    let effects = scene.run(abandoned(&[0], 2));
    assert!(effects.contains(&works(2, 2)), "{effects:?}");
}

#[test]
fn what_was_seen_before_a_process_came_back_is_not_believed() {
    let mut scene = Scene::v1_works();
    scene.joins(B, "v1", &[(WEB, 10)]);
    assert_eq!(scene.on(abandoned(&[0], 1)), []);
    assert_eq!(scene.working(), Some(1));
}

#[test]
fn what_nobody_holds_is_not_abandoned_again() {
    let mut scene = Scene::v2_is_ready();
    scene.run(died(B));
    assert_eq!(scene.on(abandoned(&[1], 2)), []);
}

#[test]
fn a_program_that_is_gone_is_put_back_and_what_came_past_it_is_looked_for() {
    // Hazards A9 and A24.
    let mut scene = Scene::v1_works();
    assert_eq!(
        scene.on(Input::ProgramGone),
        [
            record(1, Happened::ProgramGone),
            attach_again(),
            Effect::Barrier,
        ]
    );
}

fn outlived(process: crate::ProcessId, open: &[u32]) -> Input {
    let open = open.iter().copied().map(Slot).collect();
    Input::Outlived { process, open }
}

#[test]
fn what_the_children_of_a_dead_process_accept_from_stays_in_the_table() {
    // Hazard A21: a master that was adopted is killed, and its workers accept.
    let mut scene = Scene::new();
    scene.run(adopt(A, "v1", &[(WEB, 10), (WEB, 11)]));
    let both = scene.service.table().cloned();
    assert_eq!(
        scene.on(outlived(A, &[0, 1])),
        [record(1, Happened::Outlived { listeners: 2 })]
    );
    // They end one after the other.
    let effects = scene.run(abandoned(&[0], 2));
    assert!(effects.contains(&record(1, ONE_CLOSED)), "{effects:?}");
    assert_ne!(scene.service.table().cloned(), both);
    let effects = scene.run(abandoned(&[0, 1], 2));
    assert!(effects.contains(&held(WEB)), "{effects:?}");
}

#[test]
fn a_dead_process_whose_listeners_nobody_shares_is_gone() {
    let mut scene = Scene::new();
    scene.run(adopt(A, "v1", &[(WEB, 10)]));
    let effects = scene.on(outlived(A, &[]));
    assert!(effects.contains(&record(1, Happened::Died)), "{effects:?}");
}

#[test]
fn of_a_dead_process_only_what_others_have_is_kept() {
    let mut scene = Scene::new();
    scene.run(adopt(A, "v1", &[(WEB, 10), (WEB, 11)]));
    let effects = scene.run(outlived(A, &[0]));
    assert!(
        effects.contains(&publish(&table(1, 1, &[&[0]]), &[(0, 10)])),
        "{effects:?}"
    );
}
