//! Accepting with tokio.

use std::{future::Future, os::fd::AsFd as _, sync::Arc, time::Duration};

use synflip_wire::{Cookie, Event, Reply, Request};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, runtime, sync::mpsc, time::timeout};

use super::{
    agent::{PATIENCE, Place, address},
    threads::refuses,
};
use crate::Phase;

fn run(test: impl Future<Output = ()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let test = async { timeout(PATIENCE, test).await.expect("in time") };
    runtime.unwrap().block_on(test);
}

#[test]
fn accepts_until_drained_and_says_closed_when_it_is() {
    run(async {
        let place = Place::new();
        let agent = place.agent();
        let (server, mut peer, fds) = agent.start(place.builder().listen(address(40), 1));
        let port = fds[0].local_addr().unwrap();
        let mut events = server.events().into_tokio();
        let listener = Arc::new(server.listeners().remove(0).into_tokio().unwrap());
        let (served, mut serving) = mpsc::unbounded_channel();
        // Several tasks on one socket: all of them have to hear of the end.
        let tasks = [(); 3].map(|()| {
            let (listener, served) = (Arc::clone(&listener), served.clone());
            tokio::spawn(async move {
                while let Some((mut stream, peer)) = listener.accept().await.unwrap() {
                    stream.write_all(b"x").await.unwrap();
                    served.send(peer).unwrap();
                }
            })
        });
        for (event, phase) in [
            (Event::Working, Phase::Working),
            (Event::Draining, Phase::Draining),
            (Event::Standby, Phase::Standby),
        ] {
            peer.event(event);
            assert_eq!(events.next().await, Some(phase));
            let client = TcpStream::connect(port).await.unwrap();
            assert_eq!(serving.recv().await, client.local_addr().ok());
        }
        peer.event(Event::Drained);
        assert_eq!(events.next().await, Some(Phase::Drained));
        assert_eq!(events.next().await, None);
        for task in tasks {
            task.await.unwrap();
        }
        drop(listener);
        peer.expect(&Request::Closed);
        drop(fds);
        refuses(port);
        peer.say(Reply::Done);
        server.closed().await;
    });
}

#[test]
fn accepts_what_is_lent() {
    run(async {
        let place = Place::new();
        let (server, mut peer, fds) = place.agent().start(place.builder().listen(address(43), 1));
        let listener = server.listeners().remove(0).into_tokio().unwrap();
        // It sleeps until it is lent something.
        let waiting = timeout(Duration::from_millis(10), listener.accept()).await;
        waiting.unwrap_err();
        let left = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        left.set_nonblocking(true).unwrap();
        let to = left.local_addr().unwrap();
        let clients = [
            TcpStream::connect(to).await.unwrap(),
            TcpStream::connect(to).await.unwrap(),
        ];
        peer.lend(fds[0].local_addr().unwrap(), 6, left.as_fd());
        for client in &clients {
            let (_, served) = listener.accept().await.unwrap().unwrap();
            assert_eq!(served, client.local_addr().unwrap());
        }
        let nothing = timeout(Duration::from_millis(10), listener.accept()).await;
        nothing.unwrap_err();
        peer.expect(&Request::Emptied {
            cookies: vec![Cookie(6)],
        });
    });
}

#[test]
fn a_dropped_accept_loses_nothing() {
    run(async {
        let place = Place::new();
        let (server, peer, fds) = place.agent().start(place.builder().listen(address(41), 1));
        let listener = server.listeners().remove(0).into_tokio().unwrap();
        let mut events = server.events().into_tokio();
        for event in [Event::Working, Event::Draining] {
            let nothing = timeout(Duration::from_millis(10), listener.accept()).await;
            nothing.expect_err("nobody has connected");
            peer.event(event);
            events.next().await.unwrap();
            let client = TcpStream::connect(fds[0].local_addr().unwrap())
                .await
                .unwrap();
            let (_, peer) = listener.accept().await.unwrap().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    });
}

#[test]
fn a_busy_accept_loop_lets_others_run() {
    run(async {
        let place = Place::new();
        let server = place.builder().listen(address(42), 1).start().unwrap();
        let listener = server.listeners().remove(0).into_tokio().unwrap();
        let port = listener.local_addr();
        // Each connection accepted makes the next one: the queue is never empty.
        let mut clients = vec![std::net::TcpStream::connect(port).unwrap()];
        let (done, mut other) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { done.send(()).unwrap() });
        while other.try_recv().is_err() {
            clients.push(std::net::TcpStream::connect(port).unwrap());
            listener.accept().await.unwrap().unwrap();
            assert!(clients.len() < 2000, "the other task never runs");
        }
    });
}
