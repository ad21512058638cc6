//! One SYN, built once and then only re-addressed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::raw::segment::{self, Flags, Flow, Segment};

/// A SYN whose source has host part and port zero.
#[derive(Debug)]
pub(super) struct Template {
    packet: Vec<u8>,
    port: [u8; 2],
    at: &'static Layout,
}

/// What a packet from the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    SynAck(u64),
    Reset,
}

/// Where the fields are that differ between the SYNs, and those of the answers.
#[derive(Debug)]
struct Layout {
    ip_checksum: Option<usize>,
    protocol: usize,
    source_host: usize,
    target_host: usize,
    tcp: usize,
}

impl Template {
    pub(super) fn new(server: SocketAddr) -> Result<Self> {
        let (ip, at): (IpAddr, _) = match server {
            SocketAddr::V4(_) => (Ipv4Addr::new(10, 79, 0, 0).into(), &V4),
            SocketAddr::V6(_) => (Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 0, 0).into(), &V6),
        };
        let flow = Flow {
            client: SocketAddr::new(ip, 0),
            server,
        };
        let options = segment::syn_options(Some(1460), None);
        let syn = Segment {
            seq: 1,
            options,
            ..Segment::default()
        };
        let packet = segment::build(&flow, &syn, Flags::Syn)?;
        Ok(Self {
            packet,
            port: server.port().to_be_bytes(),
            at,
        })
    }

    pub(super) fn packet(&self) -> Vec<u8> {
        self.packet.clone()
    }

    /// Makes `packet`, a copy of the template, the SYN with this number.
    pub(super) fn address(&self, packet: &mut [u8], number: u64) {
        let (host, port) = source(number);
        put(packet, self.at.source_host, host);
        put(packet, self.at.tcp, port);
        if let Some(at) = self.at.ip_checksum {
            put(packet, at, add(word(&self.packet, at), &[host]));
        }
        let at = self.at.tcp + TCP_CHECKSUM;
        put(packet, at, add(word(&self.packet, at), &[host, port]));
    }

    /// Reads an answer of the server, if it is one.
    pub(super) fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let tcp = packet.get(self.at.tcp..self.at.tcp + 20)?;
        let same_version = packet[0] >> 4 == self.packet[0] >> 4;
        if !same_version || packet[self.at.protocol] != TCP || tcp[..2] != self.port {
            return None;
        }
        match tcp[13] & (SYN | ACK | RST) {
            flags if flags & RST != 0 => Some(Answer::Reset),
            flags if flags == SYN | ACK => {
                number(word(packet, self.at.target_host), word(tcp, 2)).map(Answer::SynAck)
            }
            _ => None,
        }
    }
}

/// The host part and port a SYN with this number comes from.
#[expect(clippy::cast_possible_truncation, reason = "a number is below SOURCES")]
fn source(number: u64) -> (u16, u16) {
    (
        (number / PORTS) as u16 + FIRST_HOST,
        (number % PORTS) as u16 + FIRST_PORT,
    )
}

/// The number of the SYN that came from there.
fn number(host: u16, port: u16) -> Option<u64> {
    let host = u64::from(host.checked_sub(FIRST_HOST)?);
    Some(host * PORTS + u64::from(port.checked_sub(FIRST_PORT)?))
}

/// The checksum after words that were zero have become `words` (RFC 1624).
fn add(checksum: u16, words: &[u16]) -> u16 {
    let sum = words
        .iter()
        .fold(u32::from(!checksum), |sum, &word| sum + u32::from(word));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn put(packet: &mut [u8], at: usize, word: u16) {
    packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// How many SYNs can be told apart.
pub(super) const SOURCES: u64 = 65_000 * PORTS;
const PORTS: u64 = 32_768;
const FIRST_PORT: u16 = 32_768;
/// Hosts 0 and 1 are the network and the server.
const FIRST_HOST: u16 = 2;

const V4: Layout = Layout {
    ip_checksum: Some(10),
    protocol: 9,
    source_host: 14,
    target_host: 18,
    tcp: 20,
};
const V6: Layout = Layout {
    ip_checksum: None,
    protocol: 6,
    source_host: 22,
    target_host: 38,
    tcp: 40,
};
const TCP_CHECKSUM: usize = 16;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readdressed_syn_is_what_a_fresh_one_would_be() {
        for server in ["10.79.0.1:443", "[fd79::1]:443"] {
            let server: SocketAddr = server.parse().unwrap();
            let template = Template::new(server).unwrap();
            let mut packet = template.packet();
            for number in [0, 1, 32_767, 32_768, 1_000_003, SOURCES - 1] {
                template.address(&mut packet, number);
                let (host, port) = source(number);
                let [high, low] = host.to_be_bytes();
                let ip: IpAddr = match server {
                    SocketAddr::V4(_) => Ipv4Addr::new(10, 79, high, low).into(),
                    SocketAddr::V6(_) => Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 0, host).into(),
                };
                let flow = Flow {
                    client: SocketAddr::new(ip, port),
                    server,
                };
                let options = segment::syn_options(Some(1460), None);
                let syn = Segment {
                    seq: 1,
                    options,
                    ..Segment::default()
                };
                assert_eq!(
                    packet,
                    segment::build(&flow, &syn, Flags::Syn).unwrap(),
                    "{number}"
                );
                assert_eq!(super::number(host, port), Some(number));
            }
        }
    }
}
