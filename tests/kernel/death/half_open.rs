//! Promise: a handshake that was half-open on a server that dies is served by its successor.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Line, Setup, network::complete};

use crate::helpers::{REGIMES, at_once::at_once};

#[test]
fn a_handshake_outlives_its_server() -> Result<()> {
    at_once(REGIMES, |regime| {
        let fixture = Setup::new().line(Line::Raw).agent_args(regime).start()?;
        let first = fixture.first(&[])?;
        let _second = fixture.generation(2, &[])?;
        let mut half_open = fixture.net.half_open(1)?;
        first.signal(Signal::KILL)?;
        fixture.wait_works("gen2")?;
        let by = complete(&mut half_open[0])?;
        ensure!(by == 2, "answered by generation {by}");
        Ok(())
    })
    .map(drop)
}
