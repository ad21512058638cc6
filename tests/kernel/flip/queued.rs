//! Promise: drained means drained. What was queued at the commit of a flip is served by the
//! generation it came to, and the flip does not return before that.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, Setup,
    network::{answered, answers},
    note,
    wait::{self, MS, SOON},
};
use synflip_wire::Phase;

use crate::helpers::certificate::at_commit;

#[test]
fn a_queue_is_served_before_the_flip_returns() -> Result<()> {
    a_queue_is_served("0")
}

/// A connection made from a cookie is queued without ever having been a request.
#[test]
fn a_queue_made_from_cookies_is_served_before_the_flip_returns() -> Result<()> {
    a_queue_is_served("2")
}

fn a_queue_is_served(syncookies: &str) -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new()
            .family(family)
            .sysctl("net.ipv4.tcp_syncookies", syncookies)
            .start()?;
        let old = fixture.start_working(&fixture.spec(1, 3).arg("--stop-accepting"))?;
        let clients = fixture.net.clients(QUEUED)?;
        fixture.wait_pending("gen1", QUEUED as u64, 0)?;
        let _new = fixture.generation(2, &[])?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        wait::pause(300 * MS);
        flip.still_runs()?;
        let pending = fixture.pending("gen1")?;
        ensure!(pending == (QUEUED as u64, 0), "{pending:?}");
        old.signal(Signal::USR1)?;
        let by = answers(clients)?;
        ensure!(
            by == [1; QUEUED],
            "queued connections were served by {by:?}"
        );
        let drained = flip.drained()?;
        let at_commit = at_commit(drained.certificate()?)?;
        ensure!(at_commit == (QUEUED as u64, 0), "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == QUEUED as u64, "{exit:?}");
        fixture.check_steered(QUEUED as u64)
    })
}

/// The same queue without steering: these tests would notice a loss.
#[test]
fn a_queue_dies_with_a_plain_server() -> Result<()> {
    Family::both(|family| {
        let net = Setup::new().family(family).network()?;
        let old = net.plain(&net.spec(1, 3).arg("--stop-accepting"))?;
        let clients = net.clients(QUEUED)?;
        let _new = net.plain(&net.spec(2, 2))?;
        old.stop()?;
        let lost = clients.into_iter().filter_map(|one| answered(one).err());
        let lost = lost.count();
        note(&format!(
            "{family:?}: plain servers lose {lost} of {QUEUED} queued connections"
        ));
        ensure!(lost > 0, "what plain servers serve too proves nothing");
        Ok(())
    })
}

const QUEUED: usize = 40;
