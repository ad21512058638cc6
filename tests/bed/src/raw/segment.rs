//! Segments, and the packets they travel in.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

/// A segment from the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The SYN flag.
    pub syn: bool,
    /// The FIN flag.
    pub fin: bool,
    /// The RST flag.
    pub rst: bool,
    /// TCP options, as they are on the wire.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
}

impl Segment {
    pub(super) fn of(data: &[u8]) -> Self {
        Self {
            payload: data.to_vec(),
            ..Self::default()
        }
    }

    /// The Fast Open cookie among the options.
    #[must_use]
    pub fn fast_open_cookie(&self) -> Option<&[u8]> {
        let mut rest = self.options.as_slice();
        loop {
            rest = match *rest {
                [FAST_OPEN, length, ..] => return rest.get(2..usize::from(length)),
                [NOP, ref rest @ ..] => rest,
                [END, ..] | [] => return None,
                [_, length, ..] => rest.get(usize::from(length.max(2))..)?,
                [_] => return None,
            };
        }
    }
}

/// What the client sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    Syn,
    Ack,
    Push,
    Reset,
}

/// The options of a SYN, padded.
pub(super) fn syn_options(mss: Option<u16>, fast_open: Option<&[u8]>) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(mss) = mss {
        options.extend([MSS, 4]);
        options.extend(mss.to_be_bytes());
    }
    if let Some(cookie) = fast_open {
        // A cookie that is too long for its length does not fit the header either.
        options.extend([FAST_OPEN, u8::try_from(cookie.len() + 2).unwrap_or(u8::MAX)]);
        options.extend(cookie);
    }
    options.resize(options.len().next_multiple_of(4), NOP);
    options
}

/// The packet that carries a segment from the client to the server.
pub(super) fn build(flow: &Flow, segment: &Segment, flags: Flags) -> Result<Vec<u8>> {
    let (from, to) = (flow.client, flow.server);
    let mut header = TcpHeader::new(from.port(), to.port(), segment.seq, u16::MAX);
    header.syn = flags == Flags::Syn;
    header.rst = flags == Flags::Reset;
    header.psh = flags == Flags::Push;
    header.ack = flags != Flags::Syn;
    header.acknowledgment_number = segment.ack;
    header
        .set_options_raw(&segment.options)
        .context("TCP options")?;
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
        _ => bail!("{from} and {to} are of different families"),
    };
    let builder = builder.tcp_header(header);
    let mut packet = Vec::with_capacity(builder.size(segment.payload.len()));
    builder
        .write(&mut packet, &segment.payload)
        .context("build a packet")?;
    Ok(packet)
}

/// The segment in a packet from the server, if it is TCP.
pub(super) fn parse(packet: &[u8]) -> Option<(Flow, Segment)> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        return None;
    };
    let (from, to): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let flow = Flow {
        client: SocketAddr::new(to, tcp.destination_port()),
        server: SocketAddr::new(from, tcp.source_port()),
    };
    let segment = Segment {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        options: tcp.options().to_vec(),
        payload: tcp.payload().to_vec(),
    };
    Some((flow, segment))
}

const HOPS: u8 = 64;
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const FAST_OPEN: u8 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_behind_other_options() {
        let options = syn_options(Some(1460), Some(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(options.len() % 4, 0);
        let segment = Segment {
            options,
            ..Segment::default()
        };
        assert_eq!(
            segment.fast_open_cookie(),
            Some(&[1, 2, 3, 4, 5, 6, 7, 8][..])
        );
        let cut = Segment {
            options: vec![FAST_OPEN, 10, 1],
            ..Segment::default()
        };
        assert_eq!(cut.fast_open_cookie(), None);
    }
}
