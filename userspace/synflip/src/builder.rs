//! What to listen on, and how to find the agent.

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use synflip_wire::{DEFAULT_SOCKET, GENERATION_ENV, Name, SOCKET_ENV};

use crate::{
    Error, Server,
    session::{Failure, Session, spawn},
    shared::Shared,
    socket::Socket,
};

/// What to do when there is no agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Run as a plain SO_REUSEPORT server, say so once in the log, and go on looking for an agent.
    #[default]
    Preferred,
    /// Fail.
    Required,
}

/// What a [`Server`] will be; from [`Server::builder`].
#[derive(Debug)]
#[must_use = "nothing happens until `start`"]
pub struct Builder {
    service: String,
    generation: Option<String>,
    socket: Option<PathBuf>,
    mode: Mode,
    backlog: i32,
    only_v6: bool,
    listen: Vec<(SocketAddr, usize)>,
    adopt: Vec<TcpListener>,
}

impl Builder {
    pub(crate) fn new(service: String) -> Self {
        Self {
            service,
            generation: None,
            socket: None,
            mode: Mode::default(),
            backlog: 4096,
            only_v6: false,
            listen: Vec::new(),
            adopt: Vec::new(),
        }
    }

    /// Opens `count` listeners on an address; one for each thread that accepts is a good number.
    ///
    /// May be repeated for more addresses. With port 0 the system chooses one port for all of
    /// them. `[::]` serves IPv4 too, unless [`Self::only_v6`].
    pub fn listen(mut self, address: SocketAddr, count: usize) -> Self {
        self.listen.push((address, count));
        self
    }

    /// Takes over a listener that the server opened itself, with SO_REUSEPORT set before `bind`.
    ///
    /// It is put into non-blocking mode.
    pub fn adopt_listener(mut self, listener: TcpListener) -> Self {
        self.adopt.push(listener);
        self
    }

    /// How many connections may wait to be accepted, on each listener; 4096 unless set. The system
    /// lowers it to `net.core.somaxconn`.
    ///
    /// At a flip the new generation gets all connections at once: do not make it small.
    pub const fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Whether listeners on IPv6 addresses leave IPv4 alone; not unless set.
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// The agent's socket, instead of `$SYNFLIP_SOCKET` or `/run/synflip/agent.sock`.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// The generation's name, instead of `$SYNFLIP_GENERATION` or one that the agent gives.
    ///
    /// The processes of one generation need one name.
    pub fn generation(mut self, name: impl Into<String>) -> Self {
        self.generation = Some(name.into());
        self
    }

    /// What to do when there is no agent.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Opens the listeners and registers them with the agent.
    ///
    /// Clients can connect from now on only if the server runs without an agent; with one, when
    /// the generation works.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Listen`], [`Error::System`]; [`Error::Refused`] if there is an
    /// agent and it refuses, in both modes; [`Error::NoAgent`] with [`Mode::Required`] only, also if
    /// the agent and this crate speak no common version of the control protocol.
    /// Nothing is left open.
    pub fn start(self) -> Result<Server, Error> {
        let name = |name: String| Name::try_from(name).map_err(Error::Name);
        let service = name(self.service.clone())?;
        let generation = self
            .generation
            .clone()
            .or_else(|| {
                env::var(GENERATION_ENV)
                    .ok()
                    .filter(|name| !name.is_empty())
            })
            .map(name)
            .transpose()?;
        let agent = self
            .socket
            .clone()
            .or_else(|| {
                env::var_os(SOCKET_ENV)
                    .filter(|path| !path.is_empty())
                    .map(Into::into)
            })
            .unwrap_or_else(|| DEFAULT_SOCKET.into());
        let mode = self.mode;

        let shared = Shared::new(self.open()?, generation).map_err(|source| Error::System {
            op: "opening an eventfd",
            source,
        })?;
        let mut session = Session::new(Arc::clone(&shared), service, agent);
        match session.connect() {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => return Err(Error::Refused(refusal)),
            Err(Failure::Wire(source)) if mode == Mode::Required => {
                return Err(Error::NoAgent {
                    socket: session.agent,
                    source,
                });
            }
            Err(Failure::Wire(error)) => session.report_plain(&error),
        }
        spawn(session).map_err(|source| Error::System {
            op: "starting a thread",
            source,
        })?;
        Ok(Server::new(shared))
    }

    /// Opens and adopts the listeners.
    fn open(self) -> Result<Vec<Socket>, Error> {
        let mut sockets = Vec::new();
        for (address, count) in self.listen {
            let mut bound = address;
            for _ in 0..count {
                let socket = Socket::open(bound, self.only_v6, self.backlog)
                    .map_err(|source| Error::Listen { address, source })?;
                bound = socket.address;
                sockets.push(socket);
            }
        }
        for listener in self.adopt {
            let address = listener.local_addr().map_err(|source| Error::System {
                op: "asking a listener for its address",
                source,
            })?;
            let socket =
                Socket::adopt(listener).map_err(|source| Error::Listen { address, source })?;
            sockets.push(socket);
        }
        if sockets.is_empty() {
            return Err(Error::System {
                op: "starting without a listener",
                source: io::ErrorKind::InvalidInput.into(),
            });
        }
        Ok(sockets)
    }
}
