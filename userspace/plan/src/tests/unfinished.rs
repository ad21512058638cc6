//! What an earlier agent has left half done: drains, generations that are kept or retired,
//! tombstones.

use synflip_types::GenerationId;

use super::{build::*, effects::*, inputs::*, recovery::*};
use crate::{Effect, Event, Happened, Phase, PlanError, Reading};

#[test]
fn a_drain_goes_on_with_the_program_attached_first() {
    let (mut scene, effects) = Scene::recovered(
        v2_table(),
        &[stored(living(0, v1().leaving(5))), stored(living(1, v2()))],
    );
    assert_eq!(
        effects,
        [
            attach_again(),
            prepare(0, true),
            prepare(1, false),
            attach_again(),
            Effect::Barrier,
            read(&[0]),
            wake(START + 10_000),
        ]
    );
    assert_eq!(scene.phase(1), Some(Phase::Draining));
    assert_eq!(scene.service.previous(), Some(GenerationId(1)));
    scene.on(attached(None));
    scene.on(attached(None));
    assert_eq!(
        scene.on(readings(&[(0, pending(0, 0))]))[1..],
        [record(
            1,
            Happened::Drained {
                kept: false,
                after_ms: 0
            }
        )]
    );
}

#[test]
fn an_endpoint_that_was_dropped_stays_dropped() {
    let at_alt = listener(ALT, 11, 1).leaving(5);
    let all = [
        stored(living(0, v1().leaving(5))),
        stored(living(1, v2())),
        stored(living(2, at_alt)),
    ];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    scene.carry_out(effects);
    assert_eq!(scene.service.table(), v2_table().as_ref());
}

#[test]
fn a_generation_that_was_kept_is_kept() {
    let all = [stored(living(0, v1().kept(5))), stored(living(1, v2()))];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    scene.carry_out(effects);
    assert_eq!(scene.phase(1), Some(Phase::Standby));
    let effects = scene.on(flip("previous"));
    let back = publish(&table(1, 6, &[&[0]]), &[(0, 10)]);
    assert!(effects.contains(&back), "{effects:?}");
}

#[test]
fn a_drain_that_nobody_has_custody_of_waits_for_its_servers() {
    let all = [left(0, v1().leaving(5)), left(1, v2())];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    assert_eq!(
        effects,
        [
            attach_again(),
            Effect::Barrier,
            read(&[0]),
            wake(START + 30_000),
        ]
    );
    scene.on(attached(None));
    assert_eq!(scene.on(readings(&[(0, Reading::Unknown)])).len(), 2);
    assert_eq!(scene.phase(1), Some(Phase::Draining));
    let effects = scene.run(join(C, "v1", &[(WEB, 10)]));
    assert!(effects.contains(&tell(C, Event::Draining)), "{effects:?}");
    // Nobody else joins it.
    let (name, phase) = ("v1".to_owned(), Phase::Draining);
    let error = PlanError::GenerationClosed { name, phase };
    assert_eq!(scene.on(join(D, "v1", &[(WEB, 99)])), [refused(D, error)]);
}

#[test]
fn notes_of_a_flip_that_was_not_published_mean_nothing() {
    // The agent died between the notes and the table.
    let all = [stored(living(0, v1().leaving(5))), stored(living(1, v2()))];
    let (scene, effects) = Scene::recovered(v1_table(), &all);
    assert_eq!(
        effects,
        [
            attach_again(),
            prepare(0, false),
            prepare(1, false),
            wake(START + 10_000),
        ]
    );
    assert_eq!(scene.phase(1), Some(Phase::Working));
    assert_eq!(scene.phase(2), Some(Phase::Ready));
    assert_eq!(scene.service.previous(), None);
}

#[test]
fn one_that_was_retired_is_told_to_close_again() {
    let all = [stored(living(0, v1().leaving(0))), stored(living(1, v2()))];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    scene.carry_out(effects);
    assert_eq!(scene.phase(1), Some(Phase::Drained));
    assert_eq!(scene.service.previous(), None);
    let effects = scene.run(join(C, "v1", &[(WEB, 10)]));
    assert!(effects.contains(&tell(C, Event::Retired)), "{effects:?}");
}

#[test]
fn one_that_was_retired_cannot_be_flipped_to() {
    // Its servers close: new connections would go to nobody.
    let all = [stored(living(0, v1().leaving(0))), stored(living(1, v2()))];
    let (mut scene, _) = Scene::recovered(v2_table(), &all);
    assert_eq!(scene.phase(1), Some(Phase::Drained));
    let effects = scene.on(flip("v1"));
    assert!(
        matches!(
            &effects[..],
            [Effect::Answer {
                answer: crate::Answer::Refused(_),
                ..
            }]
        ),
        "{effects:?}"
    );
}

#[test]
fn a_drain_away_from_an_adopted_process_ends_after_a_restart() {
    // Hazard A22.
    let all = [living(0, v1().adopted().leaving(5)), living(1, v2())];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    scene.carry_out(effects);
    assert_eq!(scene.phase(1), Some(Phase::Standby));
}

#[test]
fn a_tombstone_that_systemd_has_kept_is_one_still() {
    let tombstone = listener(WEB, 10, 1).tombstone();
    let all = [stored(left(0, tombstone)), stored(living(1, v2()))];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    assert_eq!(
        scene.carry_out(effects),
        [
            attach_again(),
            prepare(1, false),
            read(&[0, 1]),
            wake(START + 10_000),
        ]
    );
    assert_eq!(scene.phase(1), None);
    assert_eq!(scene.service.listeners().len(), 2);
}

#[test]
fn a_tombstone_that_is_not_in_custody_is_left_to_who_holds_it() {
    let tombstone = listener(WEB, 10, 1).tombstone();
    let all = [left(0, tombstone), stored(living(1, v2()))];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    assert_eq!(
        effects,
        [attach_again(), prepare(1, false), wake(START + 1_000)]
    );
    assert_eq!(scene.woken_on(), [read(&[0]), wake(START + 10_000)]);
    assert_eq!(scene.on(readings(&[(0, Reading::Gone)])), [clear(0)]);
}

#[test]
fn a_tombstone_is_closed_when_the_last_listener_beside_it_turns_out_to_be_gone() {
    let tombstone = listener(WEB, 10, 1).tombstone();
    let all = [stored(left(0, tombstone)), left(1, v2())];
    let (mut scene, effects) = Scene::recovered(v2_table(), &all);
    scene.carry_out(effects);
    scene.shows(1, Reading::Gone);
    let effects = scene.woken();
    assert_eq!(effects.last(), Some(&Effect::End), "{effects:?}");
}
