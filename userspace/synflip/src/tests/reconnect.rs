//! The agent goes away and comes back.

use synflip_wire::{ErrorCode, Event, Refusal, Reply, Request};

use super::{
    agent::{PATIENCE, Place, address},
    threads::serve_one,
};
use crate::Phase;

#[test]
fn registers_the_same_again() {
    let place = Place::new();
    let agent = place.agent();
    let builder = place
        .builder()
        .listen(address(20), 1)
        .listen(address(24), 1);
    let (server, mut peer, fds) = agent.start(builder);
    peer.ready(&server);
    peer.event(Event::Working);
    let mut events = server.events();
    if server.phase() != Phase::Working {
        assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Working));
    }
    drop((agent, peer));
    serve_one(&server);

    let agent = place.agent();
    let mut peer = agent.peer();
    let (register, again) = peer.register();
    assert_eq!(register.generation.as_ref().unwrap().as_str(), "gen7");
    for (one, other) in fds.iter().zip(&again) {
        assert_eq!(cookie(one), cookie(other), "the same sockets");
    }
    peer.registered(&register, "gen7");
    peer.expect(&Request::Ready);
    peer.say(Reply::Done);
    peer.event(Event::Draining);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Draining));
}

#[test]
fn a_plain_server_registers_when_an_agent_appears() {
    let place = Place::new();
    let server = place.builder().listen(address(21), 1).start().unwrap();
    server.ready().unwrap();
    serve_one(&server);
    let mut events = server.events();

    let agent = place.agent();
    let mut peer = agent.peer();
    let (register, _fds) = peer.register();
    peer.registered(&register, "gen1");
    peer.expect(&Request::Ready);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Registered));
    peer.say(Reply::Done);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Ready));
    assert!(server.is_steered());
    assert_eq!(server.generation().as_deref(), Some("gen1"));
}

#[test]
fn goes_on_trying_when_it_is_refused_later() {
    let place = Place::new();
    let agent = place.agent();
    let (server, peer, _fds) = agent.start(place.builder().listen(address(22), 1));
    drop(peer);
    let mut peer = agent.peer();
    peer.register();
    let refusal = Refusal::new(ErrorCode::GenerationClosed, "gen7 is over");
    peer.say(Reply::Refused(refusal));
    assert!(peer.request().is_none());
    serve_one(&server);

    let mut peer = agent.peer();
    let (register, _fds) = peer.register();
    peer.registered(&register, "gen7");
    let mut events = server.events();
    peer.ready(&server);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Ready));
}

#[test]
fn an_end_without_the_agent_is_an_end() {
    let place = Place::new();
    let agent = place.agent();
    let (server, peer, fds) = agent.start(place.builder().listen(address(23), 1));
    peer.event(Event::Drained);
    assert!(
        server
            .listeners()
            .iter()
            .all(|one| one.accept().unwrap().is_none())
    );
    drop((agent, peer, fds));
    server.join();
}

fn cookie(socket: &std::net::TcpListener) -> u64 {
    rustix::net::sockopt::socket_cookie(socket).unwrap()
}
