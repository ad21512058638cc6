//! Promise: a deadline of a drain is an answer. It is reported, and closes nothing.

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{Family, Line, Setup, network::complete, product::Drained, wait::SOON};
use synflip_wire::{DrainEnd, Phase};

#[test]
fn a_deadline_is_reported_and_closes_nothing() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let old = fixture.first(&[])?;
        let mut held = fixture.net.half_open(1)?;
        let _new = fixture.generation(2, &[])?;
        let flip = ["flip", "--to", "gen2", "--timeout", "1", "--json"];
        let cli = fixture.agent.cli(&flip)?;
        ensure!(cli.code == 4, "{cli:?}");
        let told: Drained = serde_json::from_str(&cli.stdout).context("read the outcome")?;
        let certificate = told.certificate()?;
        let passed = certificate.end == DrainEnd::DeadlinePassed;
        let drained = certificate.drained_after_ms.is_some();
        ensure!(passed && !drained, "{certificate:?}");
        let left = certificate
            .listeners
            .iter()
            .filter(|listener| listener.empty_after_ms.is_none());
        let left: Vec<_> = left
            .filter_map(|listener| listener.steps.last())
            .map(|last| (last.queued, last.half_open))
            .collect();
        ensure!(left == [(0, 1)], "{certificate:?}");
        let pending = fixture.pending("gen1")?;
        ensure!(pending == (0, 1), "{pending:?}");
        fixture.wait_phase("gen1", Phase::Draining)?;

        // Nothing was closed: the handshake goes on, and with its end the drain is over.
        let by = complete(&mut held[0])?;
        ensure!(by == 1, "served by generation {by}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == 1, "{exit:?}");
        fixture.wait_gone("gen1")?;
        fixture.check_steered(1)
    })
}
