//! In which order a lookup meets listeners, from the kernel's socket diagnosis.
//!
//! It is asked for listeners only, and then leaves out the connections, of which a host may have a
//! million ([`inet_diag_dump_icsk`], 5.10 to 7.3).
//!
//! [`inet_diag_dump_icsk`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_diag.c

use std::{io, os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};
use synflip_types::Cookie;

/// How long the kernel may take over an answer, which it has at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// The kernel makes no longer message of a dump (`netlink_dump`, 5.10 to 7.3).
const LONGEST: usize = 32 << 10;

/// The hash buckets of a network namespace.
#[derive(Debug)]
pub(crate) struct Buckets {
    socket: OwnedFd,
    asked: u32,
}

impl Buckets {
    /// Those of the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, asked: 0 })
    }

    /// The listeners of a port, those that are in the same bucket in its order.
    pub(crate) fn listeners(&mut self, ipv6: bool, port: u16) -> io::Result<Vec<Cookie>> {
        self.asked = self.asked.wrapping_add(1);
        self.ask(ipv6, port)?;
        let (mut found, mut buffer) = (Vec::new(), vec![0; LONGEST]);
        loop {
            let (length, _) = recv(&self.socket, &mut buffer, RecvFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest);
                let message = message.map_err(io::Error::other)?;
                // Messages are aligned to 4 bytes.
                let whole = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(whole..).unwrap_or_default();
                if message.header.sequence_number != self.asked {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(listener)) => {
                        let cookie = u64::from_ne_bytes(listener.header.socket_id.cookie);
                        found.push(Cookie(cookie));
                    }
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn ask(&self, ipv6: bool, port: u16) -> io::Result<()> {
        let (family, socket_id) = match ipv6 {
            false => (AF_INET, SocketId::new_v4()),
            true => (AF_INET6, SocketId::new_v6()),
        };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::LISTEN,
            socket_id: SocketId {
                source_port: port,
                ..socket_id
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.asked;
        let request = SockDiagMessage::InetRequest(request).into();
        let mut message = NetlinkMessage::new(header, request);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn listeners_of_a_port_are_in_the_order_of_their_bucket() {
        let mut buckets = Buckets::open().unwrap();
        for (ipv6, ip) in [
            (false, Ipv4Addr::LOCALHOST.into()),
            (true, Ipv6Addr::LOCALHOST.into()),
        ] {
            let mut address = SocketAddr::new(ip, 0);
            let mut open = Vec::new();
            for _ in 0..200 {
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.bind(&address.into()).unwrap();
                socket.listen(1).unwrap();
                address = socket.local_addr().unwrap().as_socket().unwrap();
                open.push(socket);
            }
            let mut expected: Vec<_> = open.iter().map(|s| Cookie(s.cookie().unwrap())).collect();
            if !ipv6 {
                // The newest is the first: `inet_hash2` (net/ipv4/inet_hashtables.c).
                expected.reverse();
            }
            assert_eq!(buckets.listeners(ipv6, address.port()).unwrap(), expected);
        }
    }
}
