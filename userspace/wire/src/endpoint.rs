//! An endpoint as documents that people and scripts read have it: a `protocol` and an `address`
//! beside the other fields. For `#[serde(flatten, with = "crate::endpoint")]`.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use synflip_types::{Endpoint, Protocol};

#[derive(Serialize, Deserialize)]
struct Flat {
    /// Left out by releases that knew of TCP only.
    #[serde(default)]
    protocol: Protocol,
    address: SocketAddr,
}

pub(crate) fn serialize<S: Serializer>(endpoint: &Endpoint, to: S) -> Result<S::Ok, S::Error> {
    let flat = Flat {
        protocol: endpoint.protocol,
        address: endpoint.address(),
    };
    flat.serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Endpoint, D::Error> {
    let Flat { protocol, address } = Flat::deserialize(from)?;
    let mut endpoint = Endpoint::tcp(address);
    endpoint.protocol = protocol;
    Ok(endpoint)
}
