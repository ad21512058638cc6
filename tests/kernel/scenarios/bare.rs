//! A server that links nothing: it speaks the protocol, and does to its listeners whatever a test
//! wants it to.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    mem,
    net::{Shutdown, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{product::Agent, wait};
use synflip_wire::{Client, Event, ListenerSpec, MAX_FDS, Register, Reply, Request};

use crate::scene::{SOON, Scene};

/// A generation in the test's own process.
pub(crate) struct Bare {
    pub(crate) number: u32,
    pub(crate) listeners: Vec<Socket>,
    session: Session,
}

/// Its connection to the agent.
struct Session {
    client: Client,
    /// What the agent has said of the generation.
    told: Vec<Event>,
    /// Connections from queues that it was lent.
    handed: Vec<OwnedFd>,
}

impl Bare {
    /// Opens listeners and registers them; says ready.
    pub(crate) fn start(scene: &Scene, number: u32, listeners: usize) -> Result<Self> {
        Self::start_at(scene, &scene.agent, number, listeners)
    }

    /// The same with another agent.
    pub(crate) fn start_at(
        scene: &Scene,
        agent: &Agent,
        number: u32,
        listeners: usize,
    ) -> Result<Self> {
        let opened = (0..listeners).map(|_| listener(scene));
        let opened = opened.collect::<Result<_>>()?;
        let mut bare = Self {
            number,
            listeners: opened,
            session: Session::new(agent)?,
        };
        bare.join(scene)?;
        Ok(bare)
    }

    /// Connects again, and registers the same listeners.
    pub(crate) fn come_back(&mut self, scene: &Scene) -> Result<()> {
        self.session = Session::new(&scene.agent)?;
        self.join(scene)
    }

    fn join(&mut self, scene: &Scene) -> Result<()> {
        for share in self.listeners.chunks(MAX_FDS) {
            let spec = ListenerSpec { address: scene.to };
            let request = Request::Register(Register {
                service: "web".parse()?,
                generation: Some(format!("gen{}", self.number).parse()?),
                listeners: vec![spec; share.len()],
            });
            let fds: Vec<_> = share.iter().map(|listener| listener.as_fd()).collect();
            self.session.client.send(&request, &fds)?;
            self.session
                .answer(|reply| matches!(reply, Reply::Registered { .. }))?;
        }
        self.session.client.send(&Request::Ready, &[])?;
        self.session.answer(|reply| *reply == Reply::Done)
    }

    /// Waits until the agent says so of this generation.
    pub(crate) fn is_told(&mut self, event: Event) -> Result<()> {
        self.session.until_told(event)
    }

    /// Shuts its listeners down, as servers do that mean to pause: whoever else has a descriptor
    /// of one, it does not listen any more.
    pub(crate) fn shut_down(&self) -> Result<()> {
        self.listeners.iter().try_for_each(|listener| {
            listener
                .shutdown(Shutdown::Read)
                .context("shut a listener down")
        })
    }

    /// Listens again.
    pub(crate) fn resume(&self) -> Result<()> {
        self.listeners
            .iter()
            .try_for_each(|listener| listener.listen(BACKLOG).context("listen again"))
    }

    /// Answers so many connections from its own queues.
    pub(crate) fn serve(&self, count: usize) -> Result<()> {
        let mut served = Ok(0);
        wait::until(&format!("{count} connections to serve"), SOON, || {
            served = self.accept().map(|new| new.iter().sum::<usize>());
            !matches!(served, Ok(0))
        })?;
        match count.checked_sub(served?) {
            Some(0) => Ok(()),
            Some(left) => self.serve(left),
            None => bail!("more than {count} connections"),
        }
    }

    /// Answers what is queued now; returns how many on each listener.
    pub(crate) fn accept(&self) -> Result<Vec<usize>> {
        self.listeners
            .iter()
            .map(|listener| self.accept_from(listener))
            .collect()
    }

    /// Answers what is queued on one listener now; returns how many.
    pub(crate) fn accept_at(&self, listener: usize) -> Result<usize> {
        self.accept_from(self.listeners.get(listener).context("a listener")?)
    }

    fn accept_from(&self, listener: &Socket) -> Result<usize> {
        for count in 0.. {
            match listener.accept() {
                Ok((stream, _)) => answer(stream.into(), self.number)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                // Shut down.
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(count),
                Err(error) => return Err(error).context("accept"),
            }
        }
        bail!("endless connections")
    }

    /// Answers so many connections that it is handed.
    pub(crate) fn serve_handed(&mut self, count: usize) -> Result<()> {
        let handed = self.session.take_handed(count)?;
        handed
            .into_iter()
            .try_for_each(|fd| answer(fd.into(), self.number))
    }

    /// Closes its listeners, and says so.
    pub(crate) fn close(mut self) -> Result<()> {
        self.listeners.clear();
        self.leave()
    }

    /// Says that it accepts no more.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.session.client.send(&Request::Closed, &[])?;
        self.session.answer(|reply| *reply == Reply::Done)
    }
}

impl Session {
    fn new(agent: &Agent) -> Result<Self> {
        let client = Client::connect(&agent.socket())?;
        Ok(Self {
            client,
            told: Vec::new(),
            handed: Vec::new(),
        })
    }

    /// Waits for an answer.
    fn answer(&mut self, wanted: impl Fn(&Reply) -> bool) -> Result<()> {
        loop {
            match self.next()? {
                Some(reply) if wanted(&reply) => return Ok(()),
                Some(other) => bail!("no answer but {other:?}"),
                None => {}
            }
        }
    }

    fn until_told(&mut self, event: Event) -> Result<()> {
        while !self.told.contains(&event) {
            let unasked = self.next()?;
            ensure!(unasked.is_none(), "no {event:?} but {unasked:?}");
        }
        Ok(())
    }

    fn take_handed(&mut self, count: usize) -> Result<Vec<OwnedFd>> {
        while self.handed.len() < count {
            let unasked = self.next()?;
            ensure!(unasked.is_none(), "no connections but {unasked:?}");
        }
        ensure!(self.handed.len() == count, "more than {count}");
        Ok(mem::take(&mut self.handed))
    }

    /// The next message; keeps what can come at any time.
    fn next(&mut self) -> Result<Option<Reply>> {
        let (reply, fds) = self.client.receive_with_fds(Some(SOON))?;
        match reply {
            Reply::Event(event) => self.told.push(event),
            Reply::Queue { id, .. } => {
                for lent in fds {
                    let lent = Socket::from(lent);
                    while let Ok((connection, _)) = lent.accept() {
                        self.handed.push(connection.into());
                    }
                }
                let ids = vec![id];
                self.client.send(&Request::Emptied { ids }, &[])?;
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }
}

fn listener(scene: &Scene) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking();
        let domain = Domain::for_address(scene.to);
        let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        socket.bind(&scene.to.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    scene
        .netns
        .run(open)
        .with_context(|| format!("listen on {}", scene.to))
}

fn answer(mut stream: TcpStream, number: u32) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut message = [0; 16];
    stream
        .read_exact(&mut message[..8])
        .context("read a request")?;
    message[8..12].copy_from_slice(&number.to_le_bytes());
    stream.write_all(&message).context("write an answer")
}

const BACKLOG: i32 = 4096;
