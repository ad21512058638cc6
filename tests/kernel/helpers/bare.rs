//! A server that links nothing: it speaks the protocol, and does to its listeners whatever a test
//! wants it to.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{
    Fixture, Network,
    wait::{self, SOON},
};
use synflip_wire::{Client, Event, ListenerSpec, MAX_FDS, Register, Reply, Request};

/// Enough for the kernel's hash, or a table, to give each of a few listeners some.
pub(crate) const ASKED: usize = 60;

/// A generation in the test's own process.
pub(crate) struct Bare {
    pub(crate) number: u32,
    pub(crate) listeners: Vec<Socket>,
    client: Client,
    /// What the agent has said of the generation.
    told: Vec<Event>,
}

impl Bare {
    /// Opens listeners and registers them; says ready.
    pub(crate) fn start(fixture: &Fixture, number: u32, listeners: usize) -> Result<Self> {
        let opened = (0..listeners).map(|_| listener(&fixture.net));
        let mut bare = Self {
            number,
            listeners: opened.collect::<Result<_>>()?,
            client: Client::connect(&fixture.agent.socket())?,
            told: Vec::new(),
        };
        bare.join(&fixture.net)?;
        Ok(bare)
    }

    fn join(&mut self, net: &Network) -> Result<()> {
        for share in self.listeners.chunks(MAX_FDS) {
            let address = net.address;
            let request = Request::Register(Register {
                service: "web".parse()?,
                generation: Some(format!("gen{}", self.number).parse()?),
                listeners: vec![ListenerSpec { address }; share.len()],
            });
            let fds: Vec<_> = share.iter().map(|listener| listener.as_fd()).collect();
            self.client.send(&request, &fds)?;
            let registered = |reply: &Reply| matches!(reply, Reply::Registered { .. });
            Self::answer(&mut self.client, &mut self.told, registered)?;
        }
        self.ask(&Request::Ready)
    }

    /// Waits until the agent says so of this generation.
    pub(crate) fn is_told(&mut self, event: Event) -> Result<()> {
        while !self.told.contains(&event) {
            match self.client.receive(Some(SOON))? {
                Reply::Event(event) => self.told.push(event),
                other => bail!("no {event:?} but {other:?}"),
            }
        }
        Ok(())
    }

    /// Answers so many connections from its own queues.
    pub(crate) fn serve(&self, count: usize) -> Result<()> {
        let mut served = 0;
        let mut failed = Ok(());
        wait::until(&format!("{count} connections to serve"), SOON, || {
            match self.accept() {
                Ok(new) => served += new.iter().sum::<usize>(),
                Err(error) => failed = Err(error),
            }
            served >= count || failed.is_err()
        })?;
        failed?;
        ensure!(served == count, "more than {count} connections: {served}");
        Ok(())
    }

    /// Answers what is queued now; returns how many on each listener.
    pub(crate) fn accept(&self) -> Result<Vec<usize>> {
        self.listeners
            .iter()
            .map(|listener| self.accept_from(listener))
            .collect()
    }

    fn accept_from(&self, listener: &Socket) -> Result<usize> {
        for count in 0.. {
            match listener.accept() {
                Ok((stream, _)) => answer(stream.into(), self.number)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error).context("accept"),
            }
        }
        bail!("endless connections")
    }

    /// Closes its listeners, and says so.
    pub(crate) fn close(mut self) -> Result<()> {
        self.listeners.clear();
        self.ask(&Request::Closed)
    }

    fn ask(&mut self, request: &Request) -> Result<()> {
        self.client.send(request, &[])?;
        Self::answer(&mut self.client, &mut self.told, |reply| {
            *reply == Reply::Done
        })
    }

    /// Waits for an answer; keeps what can come at any time.
    fn answer(
        client: &mut Client,
        told: &mut Vec<Event>,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Result<()> {
        loop {
            match client.receive(Some(SOON))? {
                Reply::Event(event) => told.push(event),
                reply if wanted(&reply) => return Ok(()),
                other => bail!("no answer but {other:?}"),
            }
        }
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

fn listener(net: &Network) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let domain = Domain::for_address(net.address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        socket.bind(&net.address.into())?;
        socket.listen(4096)?;
        Ok(socket)
    };
    net.server
        .run(open)
        .with_context(|| format!("listen on {}", net.address))
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
