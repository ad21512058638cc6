//! Starting, accepting with threads, ending.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use synflip_wire::{ErrorCode, Event, MAX_FDS, Refusal, Reply, Request};

use super::agent::{PATIENCE, Place, address};
use crate::{Error, Mode, Phase, Server};

/// A short time in which nothing is to happen.
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn registers_each_listener_and_becomes_ready() {
    let (place, v6) = (Place::new(), "[::1]:0".parse().unwrap());
    let builder = place.builder().listen(address(1), 3).listen(v6, 2);
    let (server, mut peer, fds) = place.agent().start(builder);
    assert_eq!(fds.len(), 5);
    let addresses: Vec<_> = server
        .listeners()
        .iter()
        .map(|one| one.local_addr())
        .collect();
    assert_eq!(addresses[0], addresses[2], "one port for all of an address");
    assert!(addresses[3].is_ipv6());
    assert_eq!(server.generation().as_deref(), Some("gen7"));
    assert_eq!(
        (server.phase(), server.is_steered()),
        (Phase::Registered, true)
    );

    peer.ready(&server);
    assert_eq!(server.phase(), Phase::Ready);
    server.ready().unwrap();
    drop(server);
    assert!(peer.request().is_none(), "leaving is not closing");
}

#[test]
fn the_agent_is_told_how_many_clients_are_served() {
    let place = Place::new();
    let (server, mut peer, _fds) = place.agent().start(place.builder().listen(address(70), 1));
    peer.ready(&server);
    server.serves(3);
    peer.expect(&Request::Serves { clients: 3 });
    // What has not changed is not said again.
    server.serves(3);
    server.serves(0);
    peer.expect(&Request::Serves { clients: 0 });
}

#[test]
fn more_listeners_than_one_message_holds() {
    let place = Place::new();
    let agent = place.agent();
    thread::scope(|scope| {
        let builder = place.builder().listen(address(2), MAX_FDS + 2);
        let server = scope.spawn(|| builder.start());
        let mut peer = agent.peer();
        let (first, fds) = peer.register();
        assert_eq!((first.generation.as_ref(), fds.len()), (None, MAX_FDS));
        peer.registered(&first, "gen3");
        let (second, fds) = peer.register();
        assert_eq!(
            (second.generation.unwrap().as_str(), fds.len()),
            ("gen3", 2)
        );
        peer.registered(&first, "gen3");
        server.join().unwrap().unwrap();
    });
}

#[test]
fn accepts_until_drained_and_says_closed_when_it_is() {
    let place = Place::new();
    let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(3), 1));
    let mut events = server.events();
    let port = fds[0].local_addr().unwrap();
    let (served, serving) = mpsc::channel();
    // Several threads on one socket: all of them have to hear of the end.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (listener, served) = (server.listeners().remove(0), served.clone());
            thread::spawn(move || {
                for connection in &listener {
                    served.send(connection.unwrap().1).unwrap();
                }
            })
        })
        .collect();
    let held = server.listeners();
    peer.ready(&server);

    for event in [
        Event::Working,
        Event::Draining,
        Event::Standby,
        Event::Working,
    ] {
        peer.event(event);
        let client = TcpStream::connect(port).unwrap();
        let peer = serving.recv_timeout(PATIENCE).unwrap();
        assert_eq!(peer, client.local_addr().unwrap(), "served in every phase");
    }
    peer.event(Event::Drained);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(events.by_ref().last(), Some(Phase::Drained));
    assert_eq!(
        events.recv_timeout(MOMENT),
        Err(RecvTimeoutError::Disconnected)
    );

    peer.request_within(MOMENT)
        .expect_err("one listener is still in use");
    drop(held);
    peer.expect(&Request::Closed);
    drop(fds);
    refuses(port);
    assert!(server.listeners().is_empty());
    peer.say(Reply::Done);
    server.join();
}

#[test]
fn what_is_queued_at_the_end_is_served() {
    let place = Place::new();
    let (server, peer, fds) = place.agent().start(place.builder().listen(address(4), 1));
    let listener = server.listeners().remove(0);
    let clients = [(); 3].map(|()| TcpStream::connect(fds[0].local_addr().unwrap()).unwrap());
    peer.event(Event::Retired);
    let last = server.events().last();
    assert_eq!(last.unwrap_or_else(|| server.phase()), Phase::Retired);
    assert_eq!(
        listener.incoming().map(Result::unwrap).count(),
        clients.len()
    );
}

#[test]
fn refusals_reach_the_caller() {
    let place = Place::new();
    let agent = place.agent();
    let refusal = Refusal::new(ErrorCode::BadListener, "listener 0 is no TCP socket");
    for mode in [Mode::Preferred, Mode::Required] {
        let builder = place.builder().listen(address(5), 1).mode(mode);
        let error = agent
            .start_with(builder, Reply::Refused(refusal.clone()))
            .unwrap_err();
        assert!(matches!(error, Error::Refused(text) if text == refusal));
    }

    let (server, mut peer, _fds) = agent.start(place.builder().listen(address(5), 1));
    thread::scope(|scope| {
        let ready = scope.spawn(|| server.ready());
        peer.expect(&Request::Ready);
        peer.say(Reply::Refused(refusal.clone()));
        let error = ready.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Refused(text) if text == refusal));
    });
    peer.ready(&server);
    assert_eq!(server.phase(), Phase::Ready);
}

#[test]
fn without_an_agent_it_is_required_or_not() {
    let place = Place::new();
    let builder = || place.builder().listen(address(6), 1);
    let error = builder().mode(Mode::Required).start().unwrap_err();
    assert!(matches!(error, Error::NoAgent { .. }));
    assert!(crate::error::causes(&error).contains("agent.sock"));

    let server = builder().start().unwrap();
    server.ready().unwrap();
    assert_eq!((server.phase(), server.is_steered()), (Phase::Plain, false));
    let port = serve_one(&server);
    let mut events = server.events();
    assert_eq!(events.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    server.stop();
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Phase::Retired));
    assert!(
        server
            .listeners()
            .iter()
            .all(|one| one.accept().unwrap().is_none())
    );
    assert!(!server.is_steered());
    server.join();
    refuses(port);
}

#[test]
fn takes_over_listeners_with_reuseport_only() {
    let place = Place::new();
    let agent = place.agent();
    let plain = TcpListener::bind(address(7)).unwrap();
    let error = place.builder().adopt_listener(plain).start().unwrap_err();
    assert!(matches!(error, Error::Listen { .. }));

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address(7).into()).unwrap();
    socket.listen(8).unwrap();
    let (server, _peer, _fds) = agent.start(place.builder().adopt_listener(socket.into()));
    serve_one(&server);
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    let place = Place::new();
    let error = Server::builder("no name").listen(address(8), 1).start();
    assert!(matches!(error, Err(Error::Name(_))));
    assert!(matches!(place.builder().start(), Err(Error::System { .. })));
    let occupied = TcpListener::bind(address(8)).unwrap();
    let address = occupied.local_addr().unwrap();
    let error = place.builder().listen(address, 1).start().unwrap_err();
    assert!(crate::error::causes(&error).contains("in use"));
}

/// Serves one connection; returns where.
pub(super) fn serve_one(server: &Server) -> SocketAddr {
    let listener = server.listeners().remove(0);
    let client = TcpStream::connect(listener.local_addr()).unwrap();
    let (_, peer) = listener.accept().unwrap().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    listener.local_addr()
}

/// Nobody listens there: no descriptor is left open.
pub(super) fn refuses(port: SocketAddr) {
    let error = TcpStream::connect(port).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
