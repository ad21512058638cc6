//! Promise: a handshake that was half-open at the commit of a flip ends on the generation that it
//! began on, and the drain is not over before that.

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Line, Setup,
    network::complete,
    wait::{self, MS, SOON},
};
use synflip_wire::Phase;

use crate::helpers::certificate::at_commit;

#[test]
fn a_half_open_handshake_survives_a_flip() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let old = fixture.start_working(&fixture.spec(1, 3))?;
        let mut held = fixture.net.half_open(HALF_OPEN)?;
        fixture.wait_pending("gen1", 0, HALF_OPEN)?;
        let _new = fixture.generation(2, &[])?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        ensure!(
            fixture.net.handshake()? == 2,
            "a new connection went to the old generation"
        );
        // Beyond the first retransmission of the SYN-ACK.
        wait::pause(2500 * MS);
        flip.still_runs()?;
        let pending = fixture.pending("gen1")?;
        ensure!(pending == (0, HALF_OPEN), "{pending:?}");
        let mut last = held.pop().context("half-open handshakes")?;
        for half_open in &mut held {
            let by = complete(half_open)?;
            ensure!(by == 1, "a half-open handshake went to generation {by}");
        }
        fixture.wait_pending("gen1", 0, 1)?;
        // Several readings of the agent later one is still missing.
        wait::pause(500 * MS);
        flip.still_runs()?;
        ensure!(complete(&mut last)? == 1, "the last went elsewhere");
        let drained = flip.drained()?;
        let at_commit = at_commit(drained.certificate()?)?;
        ensure!(at_commit == (0, HALF_OPEN), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == HALF_OPEN, "{exit:?}");
        fixture.check_steered(HALF_OPEN + 1)
    })
}

/// The same handshake without steering: this test would notice a loss.
#[test]
fn a_half_open_handshake_dies_with_a_plain_server() -> Result<()> {
    Family::both(|family| {
        let net = Setup::new().family(family).line(Line::Raw).network()?;
        let old = net.plain(&net.spec(1, 3))?;
        let mut held = net.half_open(1)?;
        let _new = net.plain(&net.spec(2, 2))?;
        old.stop()?;
        let survived = held.iter_mut().any(|half_open| complete(half_open).is_ok());
        ensure!(!survived, "what plain servers serve too proves nothing");
        Ok(())
    })
}

#[test]
fn a_reset_ends_what_a_drain_waits_for() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let old = fixture.first(&[])?;
        let held = fixture.net.half_open(2)?;
        fixture.wait_pending("gen1", 0, 2)?;
        let _new = fixture.generation(2, &[])?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        for mut half_open in held {
            flip.still_runs()?;
            half_open.rst()?;
        }
        let drained = flip.drained()?;
        let at_commit = at_commit(drained.certificate()?)?;
        ensure!(at_commit == (0, 2), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.accepted == 0, "{exit:?}");
        fixture.check_steered(2)
    })
}

const HALF_OPEN: u64 = 8;
