//! A server in the test's own process, which links nothing of the product: it lives on, whatever
//! becomes of its listeners.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use synflip_bed::{
    Fixture, Network,
    wait::{self, MS, SECOND},
};

use crate::{
    black_box::Operate as _,
    peer::{Message, Peer, listen},
};

/// A generation of one process, whose connection to the agent is in order.
#[derive(Debug)]
pub(crate) struct Bare {
    /// One for each listener.
    loops: Vec<Background>,
    _session: Option<Background>,
}

impl Bare {
    /// Opens so many listeners, registers them, and waits until new connections go to them.
    pub(crate) fn first(fixture: &Fixture, listeners: usize) -> Result<Self> {
        let name = "gen1";
        let opened = listen(&fixture.net, fixture.net.address, listeners, BACKLOG)?;
        let mut peer = Peer::connect(&fixture.agent)?;
        peer.join("web", name, &opened)?;
        let bare = Self {
            loops: opened.into_iter().map(accepting).collect(),
            _session: Some(Background::new(move |stop| session(peer, stop))),
        };
        fixture.agent.wait_works(name)?;
        Ok(bare)
    }

    /// Opens so many listeners of a server that nobody knows of.
    pub(crate) fn plain(net: &Network, address: SocketAddr, listeners: usize) -> Result<Self> {
        let opened = listen(net, address, listeners, BACKLOG)?;
        Ok(Self {
            loops: opened.into_iter().map(accepting).collect(),
            _session: None,
        })
    }

    /// Closes one of its listeners, silently.
    pub(crate) fn close(&mut self, listener: usize) {
        drop(self.loops.remove(listener));
    }
}

fn accepting(listener: TcpListener) -> Background {
    Background::new(move |stop| {
        while !stop.load(Relaxed) {
            accept_all(&listener);
            wait::pause(LOOK);
        }
    })
}

/// Reads what the agent says, and serves the queues that it is lent.
fn session(mut peer: Peer, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        match peer.receive(20 * MS) {
            Ok(Some(Message { body, fds })) if body["reply"] == "queue" => {
                for fd in fds {
                    accept_all(&fd.into());
                }
                if peer.send(&peer.emptied(&body), &[]).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            // The agent is gone: what becomes of its peers is for the clients to see.
            Err(_) => return,
        }
    }
}

/// Answers what is queued.
fn accept_all(listener: &TcpListener) {
    loop {
        match listener.accept() {
            // Whether it was answered is for the client to say.
            Ok((stream, _)) => drop(answer(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Nothing is queued any more, or it has been shut down.
            Err(_) => return,
        }
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SECOND))?;
    let mut message = [0; 16];
    stream.read_exact(&mut message[..8])?;
    message[8..12].copy_from_slice(&1_u32.to_le_bytes());
    Ok(stream.write_all(&message)?)
}

/// A thread that ends when it is told to.
#[derive(Debug)]
struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    fn new(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || work(&stopped)));
        Self { stop, thread }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // A panic has been printed.
        self.thread.take().map(JoinHandle::join);
    }
}

/// Time between two looks at a queue.
const LOOK: Duration = Duration::from_millis(5);
const BACKLOG: i32 = 4096;
