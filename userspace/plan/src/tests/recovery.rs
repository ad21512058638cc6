//! An agent that comes after another takes up what it finds in the kernel.

use synflip_types::{Epoch, Slot};

use super::{build::*, effects::*, inputs::*};
use crate::{Effect, Event, Happened, Inherited, Link, Note, Phase, Reading, Table};

/// A listener that is open; its process, if it has one, may live and will come back.
pub(super) fn left(slot: u32, note: Note) -> Inherited {
    Inherited {
        slot: Slot(slot),
        note,
        lives: false,
        kept: false,
    }
}

/// Its process is known to live.
pub(super) fn living(slot: u32, note: Note) -> Inherited {
    Inherited {
        lives: true,
        ..left(slot, note)
    }
}

/// systemd has kept a duplicate.
pub(super) fn stored(left: Inherited) -> Inherited {
    Inherited { kept: true, ..left }
}

pub(super) fn v1_table() -> Option<Table> {
    Some(table(1, 4, &[&[0]]))
}

pub(super) fn v2_table() -> Option<Table> {
    Some(table(2, 5, &[&[1]]))
}

/// v1, which works: A at WEB, slot 0.
pub(super) fn v1() -> Note {
    listener(WEB, 10, 1).ready(A)
}

/// v2: B at WEB, slot 1.
pub(super) fn v2() -> Note {
    listener(WEB, 20, 2).ready(B)
}

#[test]
fn an_earlier_agents_publication_has_its_grace_period() {
    // It may have died between the two.
    let rules = crate::Rules::default();
    let all = [living(0, v1())];
    let (_, effects) = crate::Service::recovered(rules, v1_table(), &all, crate::Moment(START));
    assert_eq!(effects[..2], [fetch(0, A), Effect::Barrier]);
}

#[test]
fn what_works_goes_on_working_and_a_duplicate_is_taken_from_who_lives() {
    let (scene, effects) = Scene::recovered(v1_table(), &[living(0, v1())]);
    assert_eq!(effects, [fetch(0, A), wake(START + 1_000)]);
    assert_eq!(
        (scene.working(), scene.service.epoch()),
        (Some(1), Epoch(4))
    );
    assert_eq!(scene.phase(1), Some(Phase::Working));
    // One that lives, and does not know yet that there is another agent.
    assert_eq!(scene.service.processes()[&A].link, Link::Absent);
}

#[test]
fn a_listener_is_in_custody_when_its_duplicate_has_been_taken() {
    let (mut scene, effects) = Scene::recovered(v1_table(), &[living(0, v1())]);
    scene.on(crate::Input::Fetched { slot: Slot(0) });
    assert!(scene.service.listeners()[&Slot(0)].custody);
    let (mut scene, _) = (scene, effects);
    assert_eq!(scene.after(1_000), []);
    // Nobody of that slot.
    assert_eq!(scene.on(crate::Input::Fetched { slot: Slot(7) }), []);
}

#[test]
fn a_duplicate_that_is_taken_is_stored_and_the_program_is_put_on_its_group() {
    let (mut scene, _) = Scene::recovered(v1_table(), &[living(0, v1())]);
    assert_eq!(
        scene.on(crate::Input::Fetched { slot: Slot(0) }),
        [
            attach_again(),
            store(0),
            prepare(0, false),
            wake(START + 10_000),
        ]
    );
}

#[test]
fn a_process_that_may_live_is_looked_for_until_it_is_back_or_its_listener_gone() {
    let (mut scene, effects) = Scene::recovered(v1_table(), &[left(0, v1())]);
    assert_eq!(effects, [wake(START + 1_000)]);
    for pause in [1_000, 1_500, 2_250, 3_375, 5_000, 5_000] {
        let before = scene.now;
        assert_eq!(scene.woken_on()[0], read(&[0]));
        assert_eq!(scene.now - before, pause);
        scene.on(readings(&[(0, pending(5, 0))]));
    }
    scene.woken_on();
    assert_eq!(
        scene.on(readings(&[(0, Reading::Gone)])),
        [clear(0), Effect::End]
    );
}

#[test]
fn a_process_that_comes_back_finds_all_as_it_was() {
    let (mut scene, _) = Scene::recovered(v1_table(), &[left(0, v1())]);
    assert_eq!(
        scene.run(join(C, "v1", &[(WEB, 10)])),
        [
            keep(0, 10),
            // It goes on accepting before it says so again.
            note(0, listener(WEB, 10, 1).ready(C)),
            attach(C),
            store(0),
            record(1, Happened::Back { listeners: 1 }),
            prepare(0, false),
            registered(C, "v1"),
            tell(C, Event::Working),
        ]
    );
    assert_eq!(scene.run(ready(C)), [record(1, Happened::Ready), done(C)]);
    assert_eq!(scene.service.table(), v1_table().as_ref());
    assert_eq!(scene.service.processes().len(), 1);
}

#[test]
fn who_was_not_ready_gets_no_connections_by_the_restart() {
    let unready = listener(WEB, 11, 1).of(B);
    let (mut scene, effects) = Scene::recovered(v1_table(), &[left(0, v1()), left(1, unready)]);
    assert_eq!(effects, [wake(START + 1_000)]);
    assert!(!scene.service.is_committing());
    // If the others die all is as it would have been.
    scene.run(died(A));
    assert_eq!(scene.service.table(), v1_table().as_ref());
}

#[test]
fn who_is_in_the_table_was_ready_whatever_the_note_says() {
    let noted_before = listener(WEB, 10, 1).of(A);
    let (scene, _) = Scene::recovered(v1_table(), &[left(0, noted_before)]);
    assert!(!scene.service.is_committing());
    assert!(scene.service.listeners()[&Slot(0)].accepts());
}

#[test]
fn a_listener_that_is_open_is_somebodys_although_the_noted_process_has_ended() {
    // Of several processes that share it one is noted.
    let nobodys = listener(WEB, 10, 1);
    let (mut scene, effects) = Scene::recovered(v1_table(), &[left(0, nobodys)]);
    assert_eq!(effects, [wake(START + 1_000)]);
    assert_eq!(scene.woken_on(), [read(&[0])]);
    assert_eq!(
        scene.on(readings(&[(0, Reading::Gone)])),
        [clear(0), Effect::End]
    );
}

#[test]
fn what_systemd_has_kept_of_a_server_that_has_ended_is_held_for_its_successor() {
    let nobodys = listener(WEB, 10, 1);
    let (mut scene, effects) = Scene::recovered(v1_table(), &[stored(left(0, nobodys))]);
    assert_eq!(
        effects,
        [
            attach_again(),
            prepare(0, false),
            held(WEB),
            wake(START + 30_000)
        ]
    );
    scene.pending(0, 3, 0);
    scene.joins(B, "v2", &[(WEB, 20)]);
    let effects = scene.run(ready(B));
    assert!(effects.contains(&lend(0, B)), "{effects:?}");
}

#[test]
fn what_systemd_has_kept_of_a_server_that_lives_is_its_own() {
    // Hazard A6.
    let all = [stored(living(0, v1())), stored(living(1, v2()))];
    let (mut scene, effects) = Scene::recovered(v1_table(), &all);
    assert_eq!(
        effects,
        [
            attach_again(),
            prepare(0, false),
            prepare(1, false),
            wake(START + 10_000),
        ]
    );
    // They are followed as adopted ones from then on, since they do not come back.
    let effects = scene.after(3_600_000);
    let is_note = |effect: &Effect| matches!(effect, Effect::Note { note, .. } if note.adopted);
    assert!(
        effects.iter().all(is_note) && effects.len() == 2,
        "{effects:?}"
    );
    assert_eq!(scene.working(), Some(1));
}

#[test]
fn the_last_process_that_ends_while_there_was_no_agent_is_succeeded() {
    let nobodys = listener(WEB, 10, 1);
    let (_, effects) = Scene::recovered(v1_table(), &[stored(left(0, nobodys)), left(1, v2())]);
    assert_eq!(
        effects,
        [
            attach_again(),
            prepare(0, false),
            note(0, listener(WEB, 10, 1).leaving(5)),
            publish(&table(2, 5, &[&[1]]), &[(1, 20)]),
            wake(START + 1_000),
        ]
    );
}

#[test]
fn an_adopted_process_that_lives_needs_not_come_back() {
    // Hazards A6 and A22: it never registers again by itself.
    let adopted = v1().adopted();
    let (mut scene, effects) = Scene::recovered(v1_table(), &[living(0, adopted)]);
    assert_eq!(effects, [fetch(0, A)]);
    assert_eq!(scene.service.processes()[&A].link, Link::Adopted);
    scene.run(crate::Input::Fetched { slot: Slot(0) });
    assert_eq!(scene.after(3_600_000), []);
    // Its end is followed, as before.
    assert!(scene.on(died(A)).contains(&held(WEB)));
}

#[test]
fn a_number_that_the_table_names_is_taken_even_if_nothing_is_left_of_its_generation() {
    let (mut scene, effects) = Scene::recovered(v2_table(), &[living(0, v1().leaving(5))]);
    // Nobody of the working generation lives: what drains succeeds.
    assert_eq!(effects[1], publish(&table(1, 6, &[&[0]]), &[(0, 10)]));
    scene.carry_out(effects);
    assert_eq!(scene.working(), Some(1));
    let effects = scene.run(crate::Input::Join(joining(C, &[(WEB, 30)])));
    assert_eq!(effects.last(), Some(&registered(C, "gen3")));
    // Slot 1 was named by a table, and is no more.
    assert!(effects.contains(&fill(1, 30)), "{effects:?}");
}

#[test]
fn a_slot_that_the_table_names_is_not_filled_even_if_its_listener_is_gone() {
    let found = Some(table(1, 4, &[&[0, 1]]));
    let (mut scene, _) = Scene::recovered(found, &[living(0, v1())]);
    let effects = scene.on(join(C, "v2", &[(WEB, 30)]));
    assert!(effects.contains(&fill(2, 30)), "{effects:?}");
}

#[test]
fn a_table_that_names_what_is_gone_is_replaced() {
    let found = Some(table(1, 4, &[&[0, 1]]));
    let (_, effects) = Scene::recovered(found, &[living(0, v1())]);
    assert_eq!(
        effects[..2],
        [fetch(0, A), publish(&table(1, 4, &[&[0]]), &[(0, 10)])]
    );
}

#[test]
fn without_a_table_the_newest_that_is_ready_works() {
    let all = [left(0, v1()), left(1, v2())];
    let (scene, effects) = Scene::recovered(None, &all);
    assert_eq!(effects[0], publish(&table(2, 1, &[&[1]]), &[(1, 20)]));
    assert_eq!(scene.working(), None);
}

#[test]
fn nothing_found_is_nothing_to_do() {
    let (scene, effects) = Scene::recovered(None, &[]);
    assert_eq!(effects, [Effect::End]);
    assert!(scene.service.is_over());
}
