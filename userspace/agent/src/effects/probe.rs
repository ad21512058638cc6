//! A connection of the agent's own to one listener: whether its process accepts.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZero,
    time::Duration,
};

use synflip_plan::Input;
use synflip_types::Slot;

use super::Executor;

/// How long a connection from the host to itself may take.
const PATIENCE: Duration = Duration::from_millis(100);

impl Executor {
    /// Connects to a listener, past the table, and closes the connection.
    pub(super) fn probe(&mut self, slot: Slot) {
        match self.try_probe(slot) {
            Ok(()) => self.watch.asked(slot),
            Err(error) => {
                tracing::debug!(service = %self.service, %slot, "it cannot be asked: {error}");
                self.watch.not_asked(slot);
                self.report(Input::NotProbed { slot });
            }
        }
    }

    fn try_probe(&mut self, slot: Slot) -> io::Result<()> {
        let known = self.custody.get(&slot).zip(self.notes.get(&slot));
        let Some(((listener, note), (steering, _))) = known.zip(self.kernel.as_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let own = own_address(listener.address);
        let client = listener.client()?;
        client.bind(&SocketAddr::new(own.ip(), 0).into())?;
        let port = client.local_addr()?.as_socket().map(|from| from.port());
        let port = port.and_then(NonZero::new).ok_or(io::ErrorKind::Other)?;
        let endpoint = note.endpoint;
        let asked = steering.ask(endpoint, slot.0, port);
        let connected = asked
            .map_err(io::Error::other)
            .and_then(|()| client.connect_timeout(&own.into(), PATIENCE));
        steering.ask_no_more(endpoint).map_err(io::Error::other)?;
        connected
    }
}

/// Where the host reaches a listener from an address that the listener has itself.
fn own_address(address: SocketAddr) -> SocketAddr {
    let mut own = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => own.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => own.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    own
}
