//! A server in the test's own process: it links nothing of the product, and may do to each of its
//! listeners what a process can do.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::net::{Shutdown, shutdown};
use serde_json::json;
use synflip_bed::{
    Fixture,
    wait::{self, MS, SECOND},
};

use crate::{
    black_box::{Operate as _, works},
    peer::{Message, Peer, listen},
};

/// A generation of one process, whose connection to the agent is in order.
#[derive(Debug)]
pub(crate) struct Bare {
    number: u32,
    loops: Vec<Accepting>,
    _session: Background,
}

impl Bare {
    /// Opens so many listeners, registers them, and waits until new connections go to them.
    pub(crate) fn first(fixture: &Fixture, listeners: usize) -> Result<Self> {
        let name = "gen1";
        let opened = listen(&fixture.net, fixture.net.address, listeners, BACKLOG)?;
        let mut peer = Peer::connect(&fixture.agent)?;
        peer.join("web", name, &opened)?;
        let bare = Self {
            number: 1,
            loops: opened.into_iter().map(|l| Accepting::new(l, 1)).collect(),
            _session: Background::new(move |stop| session(peer, 1, stop)),
        };
        fixture
            .agent
            .wait_until("the first generation works", |service| works(service, name))?;
        Ok(bare)
    }

    /// Closes one of its listeners, silently.
    pub(crate) fn close(&mut self, listener: usize) {
        drop(self.loops.remove(listener));
    }

    /// Shuts one down; its descriptor stays open.
    pub(crate) fn shut_down(&self, listener: usize) -> Result<()> {
        let accepting = self.loops.get(listener).context("a listener")?;
        shutdown(&*accepting.listener, Shutdown::Read).context("shut a listener down")
    }

    /// Stops accepting from one; it stays open.
    pub(crate) fn pause(&mut self, listener: usize) -> Result<()> {
        let accepting = self.loops.get_mut(listener).context("a listener")?;
        accepting.thread.stop();
        Ok(())
    }

    /// One of its listeners.
    pub(crate) fn listener(&self, listener: usize) -> Result<&TcpListener> {
        Ok(&self.loops.get(listener).context("a listener")?.listener)
    }

    /// Listens again with one that it has shut down, and accepts.
    pub(crate) fn resume(&mut self, listener: usize) -> Result<()> {
        let number = self.number;
        let accepting = self.loops.get_mut(listener).context("a listener")?;
        rustix::net::listen(&*accepting.listener, BACKLOG).context("listen again")?;
        accepting.go_on(number);
        Ok(())
    }
}

/// A listener, and the thread that accepts from it.
#[derive(Debug)]
struct Accepting {
    thread: Background,
    listener: Arc<TcpListener>,
}

impl Accepting {
    fn new(listener: TcpListener, number: u32) -> Self {
        let listener = Arc::new(listener);
        Self {
            thread: accepting(Arc::clone(&listener), number),
            listener,
        }
    }

    fn go_on(&mut self, number: u32) {
        self.thread.stop();
        self.thread = accepting(Arc::clone(&self.listener), number);
    }
}

fn accepting(listener: Arc<TcpListener>, number: u32) -> Background {
    Background::new(move |stop| {
        while !stop.load(Relaxed) {
            accept_all(&listener, number);
            wait::pause(LOOK);
        }
    })
}

/// Reads what the agent says, and serves the queues that it is lent.
fn session(mut peer: Peer, number: u32, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        match peer.receive(20 * MS) {
            Ok(Some(Message { body, fds })) if body["reply"] == "queue" => {
                for fd in fds {
                    accept_all(&fd.into(), number);
                }
                let emptied = json!({ "request": "emptied", "ids": [body["id"]] });
                if peer.send(&emptied, &[]).is_err() {
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
fn accept_all(listener: &TcpListener, number: u32) {
    loop {
        match listener.accept() {
            // Whether it was answered is for the client to say.
            Ok((stream, _)) => drop(answer(stream, number)),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Nothing is queued any more, or it has been shut down.
            Err(_) => return,
        }
    }
}

fn answer(mut stream: TcpStream, number: u32) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SECOND))?;
    let mut message = [0; 16];
    stream.read_exact(&mut message[..8])?;
    message[8..12].copy_from_slice(&number.to_le_bytes());
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

    fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        // A panic has been printed.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Time between two looks at a queue.
const LOOK: Duration = Duration::from_millis(5);
const BACKLOG: i32 = 4096;
