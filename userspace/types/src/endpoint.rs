//! Where a service is reached.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A transport protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
}

impl Protocol {
    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
        }
    }
}

/// A protocol and a local address: what listeners of one reuseport group share, besides their
/// owner, device and network namespace.
///
/// Written as `tcp/127.0.0.1:80`, or `tcp/[fe80::1%2]:80` with the scope of a link-local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// The protocol.
    pub protocol: Protocol,
    ip: IpAddr,
    port: u16,
    scope: u32,
}

/// A text that is no [`Endpoint`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint: use tcp/ADDRESS:PORT, as tcp/127.0.0.1:80 or tcp/[::1]:80")]
pub struct InvalidEndpoint(String);

impl Endpoint {
    /// TCP at a local address; of an IPv6 address the flow label, which no listener has, is
    /// dropped, and the scope of all but link-local ones, which means nothing.
    pub fn tcp(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
            _ => 0,
        };
        Self {
            protocol: Protocol::Tcp,
            ip: address.ip(),
            port: address.port(),
            scope,
        }
    }

    /// The local address, the scope included.
    pub fn address(self) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => SocketAddr::new(self.ip, self.port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope).into(),
        }
    }

    /// The interface of a link-local address; 0 for any other.
    pub const fn scope(self) -> u32 {
        self.scope
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol.as_str(), self.address())
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let no = || InvalidEndpoint(text.chars().take(80).collect());
        let address = text.strip_prefix("tcp/").ok_or_else(no)?;
        let address = address.parse().map_err(|_no_address| no())?;
        Ok(Self::tcp(address))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_written() {
        for text in [
            "tcp/127.0.0.1:80",
            "tcp/[::]:443",
            "tcp/[fe80::1%7]:8080",
            "tcp/[::ffff:127.0.0.1]:1",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            let json = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        }
        for text in ["", "127.0.0.1:80", "udp/127.0.0.1:80", "tcp/127.0.0.1"] {
            text.parse::<Endpoint>().unwrap_err();
        }
    }

    #[test]
    fn only_a_link_local_address_has_a_scope() {
        let scoped = |text: &str| Endpoint::tcp(text.parse().unwrap()).scope();
        assert_eq!(scoped("[fe80::1%3]:80"), 3);
        assert_eq!(scoped("[fd00::1%3]:80"), 0);
    }
}
