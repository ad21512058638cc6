//! Opening listeners, with synflip or without.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use synflip::{Mode, Server};
use tokio::net::{TcpListener, TcpStream};

use crate::Args;

/// A listener of either kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Steered(synflip::tokio::Listener),
    Plain(TcpListener),
}

impl Listener {
    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Steered(listener) => Ok(listener.local_addr()),
            Self::Plain(listener) => listener.local_addr(),
        }
    }

    /// Waits for a connection; none once the listener has ended.
    pub(crate) async fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        match self {
            Self::Steered(listener) => listener.accept().await,
            Self::Plain(listener) => listener.accept().await.map(Some),
        }
    }
}

/// Opens listeners and registers them.
pub(crate) fn steered(args: &Args) -> Result<(Server, Vec<Listener>)> {
    let mode = if args.require_agent {
        Mode::Required
    } else {
        Mode::Preferred
    };
    let mut builder = Server::builder(&args.service)
        .backlog(args.backlog)
        .only_v6(args.only_v6)
        .mode(mode);
    for address in &args.listen {
        builder = builder.listen(*address, args.listeners);
    }
    if let Some(generation) = &args.generation {
        builder = builder.generation(generation);
    }
    if let Some(socket) = &args.socket {
        builder = builder.socket(socket);
    }
    let server = builder.start()?;
    let listeners = server.listeners().into_iter();
    let listeners = listeners.map(|listener| Ok(Listener::Steered(listener.into_tokio()?)));
    let listeners = listeners.collect::<Result<_>>()?;
    Ok((server, listeners))
}

/// Opens listeners that nobody steers.
pub(crate) fn plain(args: &Args) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in &args.listen {
        let mut bound = *address;
        for _ in 0..args.listeners {
            let domain = Domain::for_address(bound);
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if bound.is_ipv6() {
                socket.set_only_v6(args.only_v6)?;
            }
            socket.set_nonblocking(true)?;
            socket
                .bind(&bound.into())
                .and_then(|()| socket.listen(args.backlog))
                .with_context(|| format!("cannot listen on {bound}"))?;
            let listener = TcpListener::from_std(socket.into())?;
            bound = listener.local_addr()?;
            listeners.push(Listener::Plain(listener));
        }
    }
    Ok(listeners)
}
