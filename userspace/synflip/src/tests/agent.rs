//! An agent that does what a test tells it to.

use std::{
    net::{SocketAddr, TcpListener},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags};
use synflip_wire::{
    Answer, Asked, Cookie, Endpoint, Event, Name, Register, Reply, Request, RequestId,
    frame::Frames, receive, send,
};
use tempfile::TempDir;

use crate::{Builder, Error, Server, socket::wait};

/// How long a test waits for what has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Where agents listen, one after the other.
pub(super) struct Place(TempDir);

pub(super) struct Agent(UnixListener);

/// A server's connection to the agent.
pub(super) struct Peer {
    stream: UnixStream,
    frames: Frames,
    /// The last request.
    asked: Option<RequestId>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("agent.sock")
    }

    pub(super) fn agent(&self) -> Agent {
        drop(std::fs::remove_file(self.path()));
        Agent(UnixListener::bind(self.path()).unwrap())
    }

    pub(super) fn builder(&self) -> Builder {
        Server::builder("web").socket(self.path())
    }
}

impl Agent {
    /// The next server that connects, welcomed.
    pub(super) fn peer(&self) -> Peer {
        let mut peer = self.stranger();
        let Some((Request::Hello(hello), _)) = peer.request() else {
            panic!("not a hello");
        };
        peer.say(Reply::Hello(hello.welcome().unwrap()));
        peer
    }

    /// The next server that connects: it waits for an answer to its hello.
    pub(super) fn stranger(&self) -> Peer {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        wait(&mut fds, Some(PATIENCE)).unwrap();
        assert!(!fds[0].revents().is_empty(), "nobody connects");
        let (stream, _) = self.0.accept().unwrap();
        Peer {
            stream,
            frames: Frames::of_requests(),
            asked: None,
        }
    }

    /// Starts a server and registers its listeners; returns the agent's duplicates too.
    pub(super) fn start(&self, builder: Builder) -> (Server, Peer, Vec<TcpListener>) {
        thread::scope(|scope| {
            let server = scope.spawn(|| builder.start());
            let mut peer = self.peer();
            let (register, fds) = peer.register();
            peer.registered(&register, "gen7");
            (server.join().unwrap().unwrap(), peer, fds)
        })
    }

    /// Starts a server, answering its first message.
    pub(super) fn start_with(&self, builder: Builder, reply: Reply) -> Result<Server, Error> {
        thread::scope(|scope| {
            let server = scope.spawn(|| builder.start());
            let mut peer = self.peer();
            peer.register();
            peer.say(reply);
            server.join().unwrap()
        })
    }
}

impl Peer {
    /// The next request, none at the end of the connection.
    pub(super) fn request(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        self.request_within(PATIENCE).expect("nothing is said")
    }

    /// The same, or an error if nothing comes in time.
    pub(super) fn request_within(
        &mut self,
        time: Duration,
    ) -> Result<Option<(Request, Vec<OwnedFd>)>, ()> {
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                let asked = Asked::read(&frame).unwrap();
                self.asked = Some(asked.id);
                return Ok(Some((asked.request, frame.fds)));
            }
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            wait(&mut fds, Some(time)).unwrap();
            if fds[0].revents().is_empty() {
                return Err(());
            }
            let mut buffer = [0; 4096];
            let received = receive(&self.stream, &mut buffer).unwrap();
            if received.bytes == 0 {
                return Ok(None);
            }
            self.frames.push(&buffer[..received.bytes], received.fds);
        }
    }

    /// The next request, which is to register; with the agent's duplicates.
    pub(super) fn register(&mut self) -> (Register, Vec<TcpListener>) {
        let Some((Request::Register(register), fds)) = self.request() else {
            panic!("not a registration");
        };
        let listeners: Vec<TcpListener> = fds.into_iter().map(TcpListener::from).collect();
        let bound = listeners.iter().map(|one| one.local_addr().unwrap());
        let claimed = register.listeners.iter().map(|one| one.endpoint.address());
        assert!(
            bound.eq(claimed),
            "each descriptor is what it is said to be"
        );
        (register, listeners)
    }

    pub(super) fn registered(&self, register: &Register, generation: &str) {
        let generation: Name = generation.parse().unwrap();
        self.say(Reply::Registered {
            service: register.service.clone(),
            generation,
        });
    }

    /// The next request, which is `expected`.
    pub(super) fn expect(&mut self, expected: &Request) {
        let (request, fds) = self.request().expect("the connection has ended");
        assert_eq!((&request, fds.len()), (expected, 0));
    }

    /// The server says that it is ready.
    pub(super) fn ready(&mut self, server: &Server) {
        thread::scope(|scope| {
            let ready = scope.spawn(|| server.ready());
            self.expect(&Request::Ready);
            self.say(Reply::Done);
            ready.join().unwrap().unwrap();
        });
    }

    /// Answers the last request.
    pub(super) fn say(&self, reply: Reply) {
        self.write(&Answer::encode(self.asked, &reply, 0).unwrap());
    }

    /// Sends bytes as they are.
    pub(super) fn write(&self, bytes: &[u8]) {
        assert_eq!(send(&self.stream, bytes, &[]).unwrap(), bytes.len());
    }

    /// Sends a document as it is.
    pub(super) fn document(&self, document: &str, fds: &[BorrowedFd<'_>]) {
        let mut frame = u32::try_from(document.len())
            .unwrap()
            .to_le_bytes()
            .to_vec();
        frame.extend([2, 0, u8::try_from(fds.len()).unwrap(), 0]);
        frame.extend(document.as_bytes());
        assert_eq!(send(&self.stream, &frame, fds).unwrap(), frame.len());
    }

    /// Lends a listener to the accept loops of an address.
    pub(super) fn lend(&self, address: SocketAddr, id: u64, listener: BorrowedFd<'_>) {
        let queue = Reply::Queue {
            endpoint: Endpoint::tcp(address),
            cookie: Cookie(id),
        };
        let frame = Answer::encode(None, &queue, 1).unwrap();
        assert_eq!(
            send(&self.stream, &frame, &[listener]).unwrap(),
            frame.len()
        );
    }

    pub(super) fn event(&self, event: Event) {
        self.write(&Answer::encode(None, &Reply::Event(event), 0).unwrap());
    }
}

/// Loopback addresses that no other test closes a listener on.
pub(super) fn address(test: u8) -> SocketAddr {
    SocketAddr::from(([127, 7, 7, test], 0))
}
