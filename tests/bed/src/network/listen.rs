//! Listeners of a server that is the test itself.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::Network;

/// Opens listeners with SO_REUSEPORT on the servers' host, in non-blocking mode.
///
/// # Errors
///
/// When one cannot be opened.
pub fn listen(
    net: &Network,
    address: SocketAddr,
    count: usize,
    backlog: i32,
) -> Result<Vec<TcpListener>> {
    let open = || -> io::Result<TcpListener> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    };
    let opened = (0..count).map(|_| net.server.run(open));
    opened
        .collect::<io::Result<_>>()
        .with_context(|| format!("listen on {address}"))
}
