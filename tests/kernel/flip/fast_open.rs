//! Promise: with TCP Fast Open, where a connection is queued by its SYN with data in it, that
//! connection is served by the generation it came to.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Family, Line, Setup,
    network::{FAST_OPEN, cookie, fast_open, receive},
    wait::SOON,
};
use synflip_wire::Phase;

use crate::helpers::certificate::at_commit;

#[test]
fn a_fast_open_is_served_by_the_generation_it_came_to() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new()
            .family(family)
            .line(Line::Raw)
            .sysctl(FAST_OPEN.0, FAST_OPEN.1)
            .start()?;
        let old = fixture.first(&["--stop-accepting"])?;
        let cookie = cookie(&fixture.net)?;
        fixture.wait_pending("gen1", 0, 0)?;
        let mut early = (0..FAST)
            .map(|_| fast_open(&fixture.net, &cookie))
            .collect::<Result<Vec<_>>>()?;
        let pending = fixture.pending("gen1")?;
        ensure!(pending.0 + pending.1 == FAST, "pending {pending:?}");

        let _new = fixture.generation(2, &[])?;
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        let by = receive(&mut fast_open(&fixture.net, &cookie)?)?;
        ensure!(by == 2, "a new one went to the old generation");
        flip.still_runs()?;
        old.signal(Signal::USR1)?;
        for fast in &mut early {
            let by = receive(fast)?;
            ensure!(by == 1, "served by generation {by}");
        }
        let drained = flip.drained()?;
        let (queued, half_open) = at_commit(drained.certificate()?)?;
        ensure!(queued + half_open == FAST, "{drained:?}");
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == FAST, "{exit:?}");
        fixture.check_steered(FAST + 1)
    })
}

const FAST: u64 = 6;
