//! The agent lends what another server has left in its queue.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    thread,
    time::Instant,
};

use synflip_wire::{Cookie, Event, Request};

use super::{
    agent::{PATIENCE, Peer, Place, address},
    threads::{refuses, serve_one},
};
use crate::Listener;

/// What a dead server has left: a listener, and clients in its queue.
struct Left {
    listener: TcpListener,
    clients: Vec<TcpStream>,
}

impl Left {
    fn new(clients: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut left = Self {
            listener,
            clients: Vec::new(),
        };
        left.more(clients);
        left
    }

    fn more(&mut self, clients: usize) {
        let port = self.port();
        self.clients
            .extend((0..clients).map(|_| TcpStream::connect(port).unwrap()));
    }

    fn port(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn lend(&self, peer: &Peer, to: SocketAddr, id: u64) {
        peer.lend(to, id, self.listener.as_fd());
    }

    /// Each of the clients gets its answer.
    fn answered(&mut self) {
        answered(std::mem::take(&mut self.clients));
    }
}

fn answered(clients: Vec<TcpStream>) {
    for mut client in clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

fn emptied(cookie: u64) -> Request {
    Request::Emptied {
        cookies: vec![Cookie(cookie)],
    }
}

/// Answers on a thread, until the end.
fn serve(listener: Listener) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for connection in &listener {
            connection.unwrap().0.write_all(b"x").unwrap();
        }
    })
}

#[test]
fn accepts_what_is_lent_and_gives_it_back() {
    let place = Place::new();
    let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(50), 2));
    let to = fds[0].local_addr().unwrap();
    let threads: Vec<_> = server.listeners().into_iter().map(serve).collect();
    let mut left = Left::new(5);
    for _ in 0..2 {
        left.lend(&peer, to, 9);
        left.answered();
        peer.expect(&emptied(9));
        // If more comes, it is lent again.
        left.more(3);
    }
    left.lend(&peer, to, 10);
    left.answered();
    peer.expect(&emptied(10));
    let port = left.port();
    drop(left);
    refuses(port);

    peer.event(Event::Drained);
    for thread in threads {
        thread.join().unwrap();
    }
    drop((server, fds));
}

#[test]
fn what_nobody_accepts_stays_queued() {
    let place = Place::new();
    let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(51), 1));
    let mut left = Left::new(2);
    left.lend(&peer, fds[0].local_addr().unwrap(), 1);
    // Nobody accepts there at all.
    left.lend(&peer, address(51), 2);
    peer.expect(&emptied(2));
    drop(server);
    assert!(peer.request().is_none(), "leaving gives everything back");
    for _ in 0..2 {
        let (mut served, _) = left.listener.accept().unwrap();
        served.write_all(b"x").unwrap();
    }
    left.answered();
    let error = left.listener.accept().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_loan_outlives_the_agent() {
    let place = Place::new();
    let agent = place.agent();
    let (server, peer, fds) = agent.start(place.builder().listen(address(52), 1));
    let left = Left::new(4);
    left.lend(&peer, fds[0].local_addr().unwrap(), 3);
    drop((agent, peer));
    let (port, Left { listener, clients }) = (left.port(), left);
    drop(listener);
    let thread = serve(server.listeners().remove(0));
    answered(clients);
    // Empty, it is closed.
    let begun = Instant::now();
    while TcpListener::bind(port).is_err() {
        assert!(begun.elapsed() < PATIENCE, "it is open still");
        thread::yield_now();
    }
    server.stop();
    thread.join().unwrap();
}

#[test]
fn its_own_queue_is_served_beside_it() {
    let place = Place::new();
    let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(53), 1));
    serve_one(&server);
    let mut left = Left::new(3);
    let to = fds[0].local_addr().unwrap();
    left.lend(&peer, to, 4);
    let mut own = TcpStream::connect(to).unwrap();
    let thread = serve(server.listeners().remove(0));
    left.answered();
    own.read_exact(&mut [0]).unwrap();
    peer.expect(&emptied(4));
    server.stop();
    thread.join().unwrap();
}
