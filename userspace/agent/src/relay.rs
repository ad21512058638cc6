//! Relaying: connections that nobody is left to accept, for servers that cannot be handed any.
//!
//! The agent accepts such a connection, opens one of its own to the same address, which the
//! program steers to the working generation, and copies until both ends are done. The server sees
//! the agent's address instead of the client's, and the connection lives no longer than the
//! agent: the last resort, for what is left on one listener.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use synflip_wire::Name;
use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{custody::Custody, limits, netns, sys};

/// How long the working generation may take to answer a SYN: longer than two retransmissions.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Room for the connections that are being relayed.
#[derive(Debug)]
pub(crate) struct Relays {
    places: Arc<Semaphore>,
    runtime: Handle,
}

impl Default for Relays {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits::RELAYED)),
            runtime: Handle::current(),
        }
    }
}

impl Relays {
    /// Relays what is queued on a listener that nobody serves.
    pub(crate) fn take_queue(&self, service: &Name, listener: &Custody) {
        let mut relayed = 0;
        while let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            match listener.accept() {
                Ok(Some(connection)) => {
                    relayed += 1;
                    self.runtime.spawn(run(connection, place));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%service, "accepting what is left: {error}");
                    break;
                }
            }
        }
        if relayed > 0 {
            tracing::info!(%service, connections = relayed, "relaying");
        }
    }
}

/// Relays one connection to its end.
async fn run(connection: OwnedFd, _place: OwnedSemaphorePermit) {
    match relay(connection).await {
        Ok((sent, received)) => tracing::debug!(sent, received, "relayed a connection"),
        Err(error) => tracing::warn!("relaying a connection: {error}"),
    }
}

async fn relay(connection: OwnedFd) -> io::Result<(u64, u64)> {
    let (socket, to) = socket_beside(&connection)?;
    let connection: std::net::TcpStream = connection.into();
    connection.set_nonblocking(true)?;
    let mut client = TcpStream::from_std(connection)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    let mut server = timeout(CONNECTS_WITHIN, connecting).await??;
    copy_bidirectional(&mut client, &mut server).await
}

/// A socket in the connection's network namespace, and the address that its client asked for.
fn socket_beside(connection: &OwnedFd) -> io::Result<(Socket, SocketAddr)> {
    let to = SockRef::from(connection).local_addr()?;
    let to = to
        .as_socket()
        .ok_or_else(|| io::Error::other("a connection without an IP address"))?;
    let namespace = sys::socket_netns(connection.as_fd())?;
    let socket = netns::within(namespace.as_fd(), || {
        Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
    })?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}
