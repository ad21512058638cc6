//! Connections that another process has left.

use std::net::{TcpListener, TcpStream};

use synflip_wire::Request;

use super::agent::{Place, address};

/// A client's end of a connection, and the end that the agent has accepted.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn what_was_taken_last_is_reported_before_the_end() {
    for closes in [true, false] {
        let place = Place::new();
        let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(9), 1));
        let listener = server.listeners().remove(0);
        let (client, accepted) = connection();
        peer.hand_over(fds[0].local_addr().unwrap(), &[(7, accepted)]);
        let (_stream, from) = listener.accept().unwrap().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        // The accept loop ends at once, before the session has looked at anything.
        if closes {
            server.stop();
        } else {
            drop(server);
        }
        drop(listener);
        // Otherwise the agent gives it to another process too.
        peer.expect(&Request::Took { ids: vec![7] });
        if closes {
            peer.expect(&Request::Closed);
        } else {
            assert!(peer.request().is_none(), "leaving is not closing");
        }
    }
}

#[test]
fn the_next_agent_is_not_told_the_numbers_of_the_last_one() {
    let place = Place::new();
    let (server, peer, fds) = place.agent().start(place.builder().listen(address(10), 1));
    let listener = server.listeners().remove(0);
    let port = fds[0].local_addr().unwrap();
    let (clients, accepted): (Vec<_>, Vec<_>) = [(); 2].map(|()| connection()).into_iter().unzip();
    let numbered: Vec<_> = [1, 2].into_iter().zip(accepted).collect();
    peer.hand_over(port, &numbered);
    // Both have come before the agent is gone, one is taken while there is none.
    let taken = listener.accept().unwrap().unwrap();
    drop(peer);
    let mut peer = place.agent().peer();
    let (register, _fds) = peer.register();
    peer.registered(&register, "gen7");
    let waited = listener.accept().unwrap().unwrap();
    let from = [taken.1, waited.1];
    assert!(
        clients
            .iter()
            .all(|client| from.contains(&client.local_addr().unwrap()))
    );
    let (client, accepted) = connection();
    peer.hand_over(port, &[(1, accepted)]);
    let (_stream, from) = listener.accept().unwrap().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    peer.expect(&Request::Took { ids: vec![1] });
}
