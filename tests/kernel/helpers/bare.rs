//! A server that links nothing: it speaks the protocol, and does to its listeners whatever a test
//! wants it to.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    mem,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::Socket;
use synflip_bed::{
    Fixture, Network,
    network::listen,
    product::Agent,
    wait::{self, SOON},
};
use synflip_wire::{
    Client, Endpoint, Event, ListenerSpec, MAX_FDS, Message, Register, Reply, Request,
};

/// Enough for the kernel's hash, or a table, to give each of a few listeners some.
pub(crate) const ASKED: usize = 60;

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
    pub(crate) fn start(fixture: &Fixture, number: u32, listeners: usize) -> Result<Self> {
        Self::start_at(&fixture.net, &fixture.agent, number, listeners)
    }

    /// The same with another agent.
    pub(crate) fn start_at(
        net: &Network,
        agent: &Agent,
        number: u32,
        listeners: usize,
    ) -> Result<Self> {
        let opened = listen(net, net.address, listeners, BACKLOG)?;
        let mut bare = Self {
            number,
            listeners: opened.into_iter().map(Socket::from).collect(),
            session: Session::new(agent)?,
        };
        bare.join(net)?;
        Ok(bare)
    }

    /// Ends its connection to the agent, and keeps its listeners.
    pub(crate) fn hang_up(&self) -> Result<()> {
        rustix::net::shutdown(&self.session.client, rustix::net::Shutdown::Both).context("hang up")
    }

    /// Connects again, and registers the same listeners.
    pub(crate) fn come_back(&mut self, fixture: &Fixture) -> Result<()> {
        self.session = Session::new(&fixture.agent)?;
        self.join(&fixture.net)
    }

    fn join(&mut self, net: &Network) -> Result<()> {
        let endpoint = Endpoint::tcp(net.address);
        for share in self.listeners.chunks(MAX_FDS) {
            let request = Request::Register(Register {
                service: "web".parse()?,
                generation: Some(format!("gen{}", self.number).parse()?),
                listeners: vec![ListenerSpec { endpoint }; share.len()],
            });
            let fds: Vec<_> = share.iter().map(|listener| listener.as_fd()).collect();
            self.session.client.send(&request, &fds)?;
            self.session
                .answer(|reply| matches!(reply, Reply::Registered { .. }))?;
        }
        self.session.ask(&Request::Ready)
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

    /// Waits until it has been lent so many listeners, and leaves their queues to the test.
    pub(crate) fn lent(&mut self, net: &Network, count: usize) -> Result<Vec<Socket>> {
        self.session.take_lent(net.address, count)
    }

    /// Closes its listeners, and says so.
    pub(crate) fn close(mut self) -> Result<()> {
        self.listeners.clear();
        self.leave()
    }

    /// Says that it accepts no more.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.session.ask(&Request::Closed)
    }
}

impl Session {
    fn new(agent: &Agent) -> Result<Self> {
        Ok(Self {
            client: Client::connect(&agent.socket())?,
            told: Vec::new(),
            handed: Vec::new(),
        })
    }

    /// Asks for what is done, or refused.
    fn ask(&mut self, request: &Request) -> Result<()> {
        self.client.send(request, &[])?;
        self.answer(|reply| *reply == Reply::Done)
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

    fn take_lent(&mut self, listens: SocketAddr, count: usize) -> Result<Vec<Socket>> {
        let mut lent = Vec::new();
        while lent.len() < count {
            let Message { reply, fds, .. } = self.client.receive(Some(SOON))?;
            match reply {
                Reply::Queue { endpoint, .. }
                    if endpoint == Endpoint::tcp(listens) && fds.len() == 1 =>
                {
                    lent.extend(fds.into_iter().map(Socket::from));
                }
                Reply::Event(event) => self.told.push(event),
                other => bail!("no queue but {other:?} with {fds:?}"),
            }
        }
        Ok(lent)
    }

    /// The next message; keeps what can come at any time.
    fn next(&mut self) -> Result<Option<Reply>> {
        let Message { reply, fds, .. } = self.client.receive(Some(SOON))?;
        match reply {
            Reply::Event(event) => self.told.push(event),
            Reply::Queue { cookie, .. } => {
                for lent in fds {
                    let lent = Socket::from(lent);
                    while let Ok((connection, _)) = lent.accept() {
                        self.handed.push(connection.into());
                    }
                }
                let cookies = vec![cookie];
                self.client.send(&Request::Emptied { cookies }, &[])?;
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }
}

/// To which listeners [`ASKED`] connections come that are made now.
pub(crate) fn came_to(fixture: &Fixture, servers: &[&Bare]) -> Result<Vec<usize>> {
    let clients = fixture.net.clients(ASKED)?;
    let mut came = Vec::new();
    wait::until("all have come to somebody", SOON, || {
        let accept = |server: &&Bare| server.accept().unwrap_or_default();
        let new: Vec<usize> = servers.iter().flat_map(accept).collect();
        came.resize(new.len(), 0);
        came.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
        came.iter().sum::<usize>() >= ASKED
    })?;
    drop(clients);
    Ok(came)
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
