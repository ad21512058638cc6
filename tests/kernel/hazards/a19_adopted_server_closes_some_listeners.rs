//! A19: an adopted server that closes some of its own listeners, as nginx does when it is told to
//! have fewer workers, leaves dead ones in the table.

use std::{net::SocketAddr, process};

use anyhow::{Result, ensure};
use synflip_bed::{
    Fixture,
    wait::{self, MS},
};

use crate::{
    bare::Bare,
    black_box::{Operate as _, PATIENCE, ask_at},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a19_an_adopted_server_that_changes_its_own_listeners() -> Result<()> {
    hazard("A19", || {
        let fixture = Fixture::new()?;
        // A server whose process is this one.
        let mut server = Bare::plain(&fixture.net, ADDRESS, 4)?;
        let listen = ["--listen", &ADDRESS.to_string()];
        let cli = fixture.agent.adopt(process::id(), "gen1", &listen)?;
        ensure!(cli.code == 0, "{cli:?}");
        let service = fixture.agent.wait_works("gen1")?;
        ensure!(
            service["generations"][0]["listeners"]
                .as_array()
                .map(Vec::len)
                == Some(4),
            "{service:#}"
        );
        server.close(3);
        server.close(2);
        wait::pause(1000 * MS);
        let answers = ask_at(&fixture.net, ADDRESS, 40, PATIENCE)?;
        safe_if!(
            answers.lost() == 0,
            "two of four listeners are closed: of 40 clients {} hang and {} are reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}

/// Of this test alone: others may run in the same process.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4019);
