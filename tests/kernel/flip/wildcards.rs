//! Promise: nothing is lost on flips of a service that listens on all addresses, IPv4 and IPv6,
//! on one socket or on two.

use anyhow::{Result, ensure};
use synflip_bed::{Family, link};

use crate::helpers::restarts::Restarts;

#[test]
fn wildcards_lose_nothing() -> Result<()> {
    let both = Family::BOTH.map(|family| (link::server(family), 8080).into());
    for (listen, connect, server) in [
        (&["0.0.0.0:8080"][..], &both[..1], &[][..]),
        (&["[::]:8080"], &both, &[]),
        (&["[::]:8080"], &both[1..], &["--only-v6"]),
        (&["[::]:8080", "0.0.0.0:8080"], &both, &["--only-v6"]),
    ] {
        let listen = listen.iter().map(|address| address.parse());
        let seen = Restarts {
            listen: listen.collect::<Result<_, _>>()?,
            connect: connect.to_vec(),
            server: server.iter().map(ToString::to_string).collect(),
            ..Restarts::new(Family::V4, 8)
        }
        .steered()?;
        for endpoint in &seen.service.endpoints {
            ensure!(endpoint.selected > 0, "{endpoint:?}");
        }
    }
    Ok(())
}
