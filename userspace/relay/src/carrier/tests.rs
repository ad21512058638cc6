//! The process as a task, with agents that talk to it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};

use socket2::{Domain, SockAddr, Socket};

use super::*;

#[test]
fn an_agent_is_told_what_is_carried_and_the_next_one_too() {
    with_process(2, |path| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = Agent::connected(&path, 2).await;
        assert_eq!(agent.state().await, (2, Counts::default()));
        let mut client = agent.order(&listener);
        client.write_all(b"123").unwrap();
        let is_open = |_, counts: &Counts| counts.open == 1 && counts.to_server == 3;
        // Of two orders that it may send one is sent, and one place is left.
        assert_eq!(agent.until(is_open).await.0, 2);
        drop(agent);

        let next = Agent::connected(&path, 2).await;
        let (may_send, counts) = next.state().await;
        assert_eq!((may_send, counts.open, counts.to_server), (1, 1, 3));
        let other = next.order(&listener);
        next.until(|may_send, counts| may_send == 1 && counts.open == 2)
            .await;
        drop((client, other, listener));
        let (_, counts) = next
            .until(|may_send, counts| may_send == 3 && counts.open == 0)
            .await;
        assert_eq!(counts.total, 2);
    });
}

#[test]
fn what_a_dead_agent_has_sent_is_carried() {
    with_process(100, |path| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = Agent::connected(&path, 100).await;
        let mut clients: Vec<_> = (0..20).map(|_| agent.order(&listener)).collect();
        // Not even the process's first report has been read.
        drop(agent);
        let server = thread::spawn(move || {
            for _ in 0..20 {
                let (mut server, _) = listener.accept().unwrap();
                server.write_all(b"here").unwrap();
            }
        });
        let next = Agent::connected(&path, 100).await;
        next.until(|_, counts| counts.total == 20 && counts.to_client == 80)
            .await;
        server.join().unwrap();
        for client in &mut clients {
            client.read_exact(&mut [0; 4]).unwrap();
        }
    });
}

#[test]
fn nonsense_and_failures_end_no_conversation() {
    with_process(100, |path| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = Agent::connected(&path, 100).await;
        agent.0.send(&"no order", &[]).unwrap();
        let service = "web".parse().unwrap();
        agent.0.send(&Order::Carry { service }, &[]).unwrap();
        let _client = agent.order(&listener);
        drop(listener);
        let why = loop {
            match agent.0.receive().await.unwrap().unwrap().0 {
                Report::Failed { why, .. } => break why,
                Report::State { .. } => {}
            }
        };
        assert!(why.contains("connecting to 127.0.0.1"), "{why}");
    });
}

struct Agent(Line);

impl Agent {
    async fn connected(path: &Path, places: u64) -> Self {
        let line = Line::connect(path).unwrap();
        let hello: Hello = line.receive().await.unwrap().unwrap().0;
        assert_eq!((hello.version, hello.places), (VERSION, places));
        Self(line)
    }

    /// Accepts a connection, as the agent does, and hands it over; returns the client.
    fn order(&self, listener: &TcpListener) -> TcpStream {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let beside = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let service = "web".parse().unwrap();
        let fds = [accepted.as_fd(), beside.as_fd()];
        self.0.send(&Order::Carry { service }, &fds).unwrap();
        client
    }

    async fn state(&self) -> (u64, Counts) {
        loop {
            if let Report::State { may_send, services } = self.0.receive().await.unwrap().unwrap().0
            {
                return (
                    may_send,
                    services.first().map(|(_, c)| *c).unwrap_or_default(),
                );
            }
        }
    }

    async fn until(&self, wanted: impl Fn(u64, &Counts) -> bool) -> (u64, Counts) {
        loop {
            let (may_send, counts) = self.state().await;
            if wanted(may_send, &counts) {
                return (may_send, counts);
            }
        }
    }
}

/// Talks to a process that is a task here.
fn with_process<F: Future<Output = ()>>(places: u64, talk: impl FnOnce(std::path::PathBuf) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let socket = Line::socket().unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(8).unwrap();
        spawn_local(async move { serve(socket.into(), places).await.unwrap() });
        talk(path).await;
    }));
}
