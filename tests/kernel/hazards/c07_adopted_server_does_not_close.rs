//! C7: `flip` says of an adopted server that it closes now; it is to be stopped, and not at once.

use std::{io::Write as _, net::TcpStream};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Fixture,
    network::{REQUEST, answered},
    wait::SOON,
};

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c07_the_readme_loses_what_an_adopted_server_has_accepted() -> Result<()> {
    hazard("C7", || {
        let fixture = Fixture::new()?;
        let _old = fixture.adopted(&fixture.spec(1, 1))?;
        fixture.agent.wait_works("gen1")?;
        let address = fixture.net.address;
        let connect = || TcpStream::connect_timeout(&address, SOON);
        let mut accepted = fixture.net.client.run(connect).context("connect")?;
        accepted.set_read_timeout(Some(SOON))?;
        let queued = |service: &serde_json::Value| {
            let listener = &service["generations"][0]["listeners"][0];
            listener["queued"] == 0
        };
        fixture.agent.wait_until("it is accepted", queued)?;
        let _new = fixture.adopted(&fixture.spec(2, 1))?;
        // In case that `adopt` returns before its server is known to be ready.
        fixture.agent.wait_until("gen2 is known", |service| {
            service["generations"]
                .as_array()
                .is_some_and(|all| all.len() == 2)
        })?;
        let flip = fixture.agent.tried(&["flip", "--to", "gen2"])?;
        ensure!(flip.code == 0, "{flip:?}");
        // It was told nothing, so it goes on with what it has accepted.
        accepted.write_all(REQUEST).context("send a request")?;
        let by = answered(accepted)?;
        ensure!(by == 1, "answered by {by}");
        let said = flip.stdout.lines().find(|line| line.contains("drained"));
        safe_if!(
            !flip.stdout.contains("closes now"),
            "with a connection accepted and not answered, flip says {:?}, and the adopted server \
             is told nothing; stopped then, it loses that connection",
            said.unwrap_or_default()
        );
        Ok(Verdict::Safe)
    })
}
