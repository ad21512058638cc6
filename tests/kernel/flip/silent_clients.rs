//! Promise: clients that never answer, of which a flood of SYNs leaves thousands, hold a drain up
//! for as long as the kernel goes on sending SYN-ACKs, and no longer.

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Line, Setup, capability::is_slow, network::complete, product::Drained, wait::SOON,
};
use synflip_wire::DrainEnd;

#[test]
fn who_never_answers_holds_a_drain_up_until_the_kernel_gives_up() -> Result<()> {
    Family::both(|family| {
        // After 3 seconds, or 7.
        let retries = if is_slow() { "2" } else { "1" };
        let fixture = Setup::new()
            .family(family)
            .line(Line::Raw)
            .sysctl("net.ipv4.tcp_synack_retries", retries)
            .start()?;
        let old = fixture.first(&[])?;
        let _new = fixture.generation(2, &[])?;
        let mut alive = fixture.net.half_open(1)?.remove(0);
        drop(fixture.net.half_open(DEAD)?);
        let flip = ["flip", "--to", "gen2", "--timeout", "1", "--json"];
        let cli = fixture.agent.cli(&flip)?;
        ensure!(cli.code == 4, "{cli:?}");
        let flip: Drained = serde_json::from_str(&cli.stdout)?;
        let certificate = flip.certificate()?;
        let passed = certificate.end == DrainEnd::DeadlinePassed;
        ensure!(passed, "{certificate:?}");
        let left = certificate.listeners.iter();
        let left = left.filter_map(|listener| listener.steps.last());
        let left: u64 = left.map(|step| step.half_open).sum();
        ensure!(left == DEAD + 1, "{left} left: {certificate:?}");
        ensure!(complete(&mut alive)? == 1, "the living one went elsewhere");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == 1, "not served: {exit:?}");
        fixture.wait_gone("gen1")?;
        fixture.check_steered(DEAD + 1)
    })
}

const DEAD: u64 = 200;
