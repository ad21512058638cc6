//! C8: a deadline that passes blames a client where the server does not accept.

use anyhow::{Result, ensure};
use synflip_bed::Fixture;

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c08_a_deadline_blames_a_client_that_is_there() -> Result<()> {
    hazard("C8", || {
        let fixture = Fixture::new()?;
        let _old = first(&fixture, &["--stop-accepting"])?;
        let _queued = fixture.net.clients(3)?;
        let _new = fixture.generation(2, &[])?;
        let flip = ["flip", "--to", "gen2", "--timeout", "1"];
        let flip = fixture.agent.tried(&flip)?;
        ensure!(flip.code == 4, "{flip:?}");
        let said = format!("{}{}", flip.stdout, flip.stderr);
        let verdict = said.lines().find(|line| line.contains("NOT drained"));
        safe_if!(
            !said.contains("a client that has gone away"),
            "3 connections are queued and not accepted, and all clients are there: {}",
            verdict.unwrap_or(&said)
        );
        Ok(Verdict::Safe)
    })
}
