//! An agent of another release.

use std::{fs::File, os::fd::AsFd as _, thread};

use synflip_wire::{Answer, ErrorCode, Event, NoCommonVersion, Refusal, Reply, Request, Versions};

use super::{
    agent::{PATIENCE, Peer, Place, address},
    threads::serve_one,
};
use crate::{Builder, Error, Mode, Phase, Server};

/// Starts a server whose hello is answered by `answer`.
fn start(place: &Place, builder: Builder, answer: impl FnOnce(&mut Peer)) -> Result<Server, Error> {
    let agent = place.agent();
    thread::scope(|scope| {
        let server = scope.spawn(|| builder.start());
        let mut peer = agent.stranger();
        let hello = peer.request();
        assert!(matches!(hello, Some((Request::Hello(_), _))), "{hello:?}");
        answer(&mut peer);
        drop(peer);
        server.join().unwrap()
    })
}

/// What an agent of 0.1.0 answers.
fn old(peer: &mut Peer) {
    let text = "the other end speaks protocol version 2, this one 1";
    let refusal = Refusal::new(ErrorCode::VersionMismatch, text);
    peer.write(&Answer::encode_for_all(refusal).unwrap());
}

/// What an agent answers that has given up this version.
fn far_ahead(peer: &mut Peer) {
    let none = NoCommonVersion {
        ours: Versions { min: 5, max: 6 },
        theirs: Versions { min: 2, max: 2 },
    };
    let refusal = Refusal::new(ErrorCode::VersionMismatch, none.to_string());
    peer.say(Reply::Refused(refusal));
}

#[test]
fn without_a_common_version_it_runs_as_without_an_agent() {
    let place = Place::new();
    for (answer, words) in [
        (old as fn(&mut Peer), "upgrade the agent"),
        (far_ahead, "versions 5 to 6"),
    ] {
        let builder = || place.builder().listen(address(60), 1);
        let server = start(&place, builder(), answer).unwrap();
        assert!(!server.is_steered() && server.phase() == Phase::Plain);
        server.ready().unwrap();
        serve_one(&server);
        drop(server);

        let error = start(&place, builder().mode(Mode::Required), answer).unwrap_err();
        assert!(matches!(error, Error::NoAgent { .. }), "{error:?}");
        let text = crate::error::causes(&error);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn it_comes_back_when_the_agent_has_been_upgraded() {
    let place = Place::new();
    let builder = place.builder().listen(address(61), 1);
    let server = start(&place, builder, old).unwrap();
    let agent = place.agent();
    // It says nothing of listeners until it knows whom it speaks to.
    let mut stranger = agent.stranger();
    let hello = stranger.request();
    assert!(matches!(hello, Some((Request::Hello(_), _))), "{hello:?}");
    old(&mut stranger);
    assert!(stranger.request().is_none(), "more is said");
    drop(stranger);
    let mut peer = agent.peer();
    let (register, _fds) = peer.register();
    peer.registered(&register, "gen1");
    peer.ready(&server);
    assert!(server.is_steered());
}

#[test]
fn a_refusal_before_the_hello_is_a_refusal() {
    let place = Place::new();
    let builder = place.builder().listen(address(62), 1);
    let full = |peer: &mut Peer| {
        let refusal = Refusal::new(ErrorCode::LimitReached, "the agent has 1024 connections");
        peer.write(&Answer::encode_for_all(refusal).unwrap());
    };
    let error = start(&place, builder, full).unwrap_err();
    let Error::Refused(refusal) = error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.code, ErrorCode::LimitReached);
}

#[test]
fn what_a_later_agent_says_is_ignored() {
    let place = Place::new();
    let agent = place.agent();
    let builder = place.builder().listen(address(63), 1);
    let (server, mut peer, _fds) = agent.start(builder);
    peer.ready(&server);
    let mut events = server.events();
    let file = File::open("/dev/null").unwrap();
    for document in [
        r#"{"reply":"news","text":"x"}"#,
        r#"{"reply":"event","event":"frozen","until_ms":7}"#,
        r#"{"id":99,"reply":"progress","done":0.5}"#,
        r#"{"id":99,"reply":"done"}"#,
    ] {
        peer.document(document, &[]);
    }
    peer.document(r#"{"reply":"gift"}"#, &[file.as_fd()]);
    // To something that a later helper would say.
    peer.document(
        r#"{"id":99,"reply":"refused","code":"unknown-request","text":"x","since":1}"#,
        &[],
    );
    assert_eq!(server.phase(), Phase::Ready);
    peer.document(r#"{"reply":"event","event":"working","share":1}"#, &[]);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Working));
    serve_one(&server);
}

#[test]
fn a_leaving_generation_accepts_on() {
    let place = Place::new();
    let agent = place.agent();
    let builder = place.builder().listen(address(64), 1);
    let (server, mut peer, _fds) = agent.start(builder);
    peer.ready(&server);
    let mut events = server.events();
    for (event, phase) in [
        (Event::Draining, Phase::Draining),
        (Event::Leaving, Phase::Leaving),
        (Event::Working, Phase::Working),
        (Event::Leaving, Phase::Leaving),
    ] {
        peer.event(event);
        assert_eq!(events.recv_timeout(PATIENCE), Ok(phase));
        assert!(!phase.is_last());
        serve_one(&server);
    }
}
