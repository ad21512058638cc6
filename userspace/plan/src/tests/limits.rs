//! How much a service may have (hazard B8), and when it is over.

use std::net::Ipv4Addr;

use synflip_abi::{MAX_ENDPOINTS, MAX_SLOTS};
use synflip_types::{Cookie, Endpoint};

use super::{build::*, effects::*, inputs::*};
use crate::{Answer, Effect, Input, Join, PlanError, ProcessId};

/// 64 generations, of which the first works; each has one listener, and a process of its number.
fn full() -> Scene {
    let mut scene = Scene::new();
    for number in 1..=64_u32 {
        let (process, name) = (ProcessId(number.into()), format!("v{number}"));
        scene.joins_ready(process, &name, &[(WEB, u64::from(number))]);
    }
    scene
}

#[test]
fn a_generation_too_many_is_refused() {
    let mut scene = full();
    let error = PlanError::TooManyGenerations { most: 64 };
    let one_more = ProcessId(65);
    assert_eq!(
        scene.on(join(one_more, "v65", &[(WEB, 65)])),
        [refused(one_more, error)]
    );
}

#[test]
fn who_is_known_can_come_back_whatever_the_number_of_generations() {
    let mut scene = full();
    scene.run(died(A));
    let effects = scene.run(join(ProcessId(70), "v1", &[(WEB, 1)]));
    assert!(
        effects.contains(&registered(ProcessId(70), "v1")),
        "{effects:?}"
    );
    // And a process can still join a generation that there is.
    let effects = scene.run(join(ProcessId(71), "v64", &[(WEB, 71)]));
    assert!(
        effects.contains(&registered(ProcessId(71), "v64")),
        "{effects:?}"
    );
}

#[test]
fn an_endpoint_too_many_is_refused_and_one_that_is_out_of_use_makes_room() {
    let listeners = |from: u16, count: u16| -> Vec<(u16, u64)> {
        (from..from + count)
            .map(|port| (port, port.into()))
            .collect()
    };
    let most = u16::try_from(MAX_ENDPOINTS).unwrap();
    let mut scene = Scene::new();
    let too_many = refused(A, PlanError::TooManyEndpoints);
    let named = |process, listeners: &[(u16, u64)]| Input::Join(joining(process, listeners));
    assert_eq!(scene.on(named(A, &listeners(1, most + 1)))[0], too_many);
    let mut scene = Scene::new();
    scene.run(named(A, &listeners(1, most)));
    scene.run(ready(A));
    let too_many = refused(B, PlanError::TooManyEndpoints);
    assert_eq!(scene.on(named(B, &listeners(500, 1))), [too_many]);
    // A has closed one for good.
    let mut scene = Scene::new();
    scene.run(named(A, &listeners(1, most - 1)));
    scene.run(ready(A));
    scene.run(named(B, &listeners(most, 1)));
    scene.run(closed(B));
    assert_eq!(scene.service.places().len(), usize::from(most - 1));
    let effects = scene.run(named(B, &listeners(500, 1)));
    assert!(effects.contains(&registered(B, "gen3")), "{effects:?}");
}

#[test]
fn listeners_too_many_are_refused_together() {
    let mut scene = Scene::v1_works();
    let address = Endpoint::tcp((Ipv4Addr::LOCALHOST, WEB).into());
    let many = |count: u32| -> Input {
        let cookies = 100..100 + u64::from(count);
        Input::Join(Join {
            listeners: cookies.map(|cookie| (address, Cookie(cookie))).collect(),
            ..joining(B, &[])
        })
    };
    let free = usize::try_from(MAX_SLOTS).unwrap() - 1;
    assert_eq!(
        scene.on(many(MAX_SLOTS)),
        [refused(B, PlanError::TooManyListeners { free })]
    );
    let effects = scene.run(many(MAX_SLOTS - 1));
    assert!(effects.contains(&registered(B, "gen2")));
    scene.run(ready(B));
    scene.run(flip("gen2"));
    assert_eq!(scene.service.table().unwrap().all_slots().count(), free);
}

#[test]
fn a_service_is_over_when_its_last_listener_is_closed_and_says_nothing_after_that() {
    let mut scene = Scene::v1_works();
    let effects = scene.ends(A);
    assert_eq!(effects.last(), Some(&Effect::End));
    assert!(scene.service.is_over());
    assert_eq!(scene.on(Input::Time), []);
    assert_eq!(scene.on(died(A)), []);
}

#[test]
fn who_waits_for_a_drain_is_answered_before_the_service_is_over() {
    let mut scene = Scene::v2_is_ready();
    scene.pending(0, 3, 1);
    scene.run(Flips::to("v2").wait(600_000).input());
    scene.run(closed(A));
    let effects = scene.ends(B);
    let is_over = |effect: &Effect| {
        matches!(
            effect,
            Effect::Answer {
                answer: Answer::DrainOver { .. },
                ..
            }
        )
    };
    assert!(effects.iter().any(is_over), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::End));
}

#[test]
fn a_service_is_not_over_while_somebody_registers() {
    let mut scene = Scene::v1_works();
    scene.on(join(B, "v2", &[(ALT, 20)]));
    let effects = scene.run(closed(A));
    assert!(!effects.contains(&Effect::End), "{effects:?}");
    let effects = scene.on(attached(Some(B)));
    assert!(effects.contains(&registered(B, "v2")), "{effects:?}");
}
