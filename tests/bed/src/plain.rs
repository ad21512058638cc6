//! What happens without synflip? The server which must lose connections.
//!
//! It restarts as servers with SO_REUSEPORT do: the new generation listens
//! beside the old one, then the old one closes its listeners and finishes what
//! it has accepted. Handshakes in flight and the accept queue die with them.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{
    EventfdFlags,
    epoll::{self, CreateFlags, EventData, EventFlags},
    eventfd,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Netns, tun::timespec};

/// A running server: one thread, several listeners.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<Result<Served>>>,
}

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections answered.
    pub answered: u64,
}

impl Server {
    /// Listens in `netns` with `listeners` sockets; port 0 lets the kernel choose one.
    ///
    /// # Errors
    ///
    /// When a listener cannot be made.
    pub fn start(
        netns: &Netns,
        mut addr: SocketAddr,
        listeners: usize,
        generation: u32,
    ) -> Result<Self> {
        let mut sockets = Vec::new();
        for _ in 0..listeners {
            let socket = netns
                .run(|| listen(addr))
                .with_context(|| format!("listen on {addr}"))?;
            addr = socket.local_addr().context("address of a listener")?;
            sockets.push(socket);
        }
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?);
        let worker = Worker::new(sockets, Arc::clone(&stop), generation)?;
        let thread = thread::Builder::new()
            .name(format!("plain-{generation}"))
            .spawn(move || worker.run())
            .context("start a server thread")?;
        Ok(Self {
            addr,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listeners at once and finishes the accepted connections.
    ///
    /// # Errors
    ///
    /// When the server has failed before.
    pub fn stop(mut self) -> Result<Served> {
        self.finish()
            .unwrap_or_else(|| Err(anyhow!("stopped twice")))
    }

    fn finish(&mut self) -> Option<Result<Served>> {
        let thread = self.thread.take()?;
        Some(
            rustix::io::write(&*self.stop, &1_u64.to_ne_bytes())
                .context("stop the server")
                .and_then(|_| {
                    thread
                        .join()
                        .map_err(|_panic| anyhow!("the server has panicked"))?
                }),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that wants the result calls `stop`.
        drop(self.finish());
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

struct Worker {
    epoll: OwnedFd,
    stop: Arc<OwnedFd>,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Peer>>,
    free: Vec<usize>,
    generation: u32,
    served: Served,
}

struct Peer {
    socket: TcpStream,
    request: [u8; 8],
    received: usize,
}

impl Worker {
    fn new(listeners: Vec<TcpListener>, stop: Arc<OwnedFd>, generation: u32) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("epoll_create")?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN).context("epoll_ctl")?;
        for (listener, token) in listeners.iter().zip(FIRST_LISTENER..) {
            epoll::add(&epoll, listener, EventData::new_u64(token), EventFlags::IN)
                .context("epoll_ctl")?;
        }
        let served = Served::default();
        let (connections, free) = (Vec::new(), Vec::new());
        Ok(Self {
            epoll,
            stop,
            listeners,
            connections,
            free,
            generation,
            served,
        })
    }

    fn run(mut self) -> Result<Served> {
        let mut events = Vec::with_capacity(256);
        let mut deadline = None;
        loop {
            let left = deadline
                .map(|deadline: Instant| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero() || self.free.len() == self.connections.len())
            {
                return Ok(self.served);
            }
            let left = left.map(|left| timespec(left.max(Duration::from_millis(1))));
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                left.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    STOP => {
                        epoll::delete(&self.epoll, &self.stop).context("epoll_ctl")?;
                        self.listeners.clear();
                        deadline = Some(Instant::now() + FINISH);
                    }
                    token @ FIRST_LISTENER.. => self.accept(token - FIRST_LISTENER)?,
                    token => self.serve(usize::try_from(token).context("token")?),
                }
            }
        }
    }

    fn accept(&mut self, listener: u64) -> Result<()> {
        let Some(listener) = self
            .listeners
            .get(usize::try_from(listener).context("token")?)
        else {
            return Ok(());
        };
        // A bound keeps a burst of one listener from starving the others.
        for _ in 0..64 {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The client has gone already: that is for the client to count.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accept"),
            };
            socket
                .set_nonblocking(true)
                .context("set a connection non-blocking")?;
            self.served.accepted += 1;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = EventData::new_u64(u64::try_from(index).context("token")?);
            epoll::add(&self.epoll, &socket, token, EventFlags::IN | EventFlags::ET)
                .context("watch a connection")?;
            self.connections[index] = Some(Peer {
                socket,
                request: [0; 8],
                received: 0,
            });
        }
        Ok(())
    }

    /// Reads on, and answers once the request is whole. Failures are the client's to count.
    fn serve(&mut self, index: usize) {
        let Some(Some(peer)) = self.connections.get_mut(index) else {
            return;
        };
        while peer.received < peer.request.len() {
            match peer.socket.read(&mut peer.request[peer.received..]) {
                Ok(length @ 1..) => peer.received += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => break,
            }
        }
        if peer.received == peer.request.len() {
            let mut answer = [0; 16];
            answer[..8].copy_from_slice(&peer.request);
            answer[8..12].copy_from_slice(&self.generation.to_le_bytes());
            self.served.answered += u64::from(peer.socket.write_all(&answer).is_ok());
        }
        self.connections[index] = None;
        self.free.push(index);
    }
}

const BACKLOG: i32 = 4096;
/// How long an accepted connection may still take after the server was stopped.
const FINISH: Duration = Duration::from_secs(2);
const FIRST_LISTENER: u64 = 1 << 32;
const STOP: u64 = u64::MAX;
