//! C1: exit code 1, which means that nothing has changed, after a commit.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, wait::SOON};

use crate::{
    black_box::{Operate as _, first, works},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c01_nothing_changed_after_a_commit() -> Result<()> {
    hazard("C1", || {
        let mut fixture = Fixture::new()?;
        let old = first(&fixture, &["--stop-accepting"])?;
        let _queued = fixture.net.clients(2)?;
        let _new = fixture.generation(2, &[])?;
        let flip = fixture.agent.begin(&["flip", "--to", "gen2"])?;
        fixture.agent.wait_works("gen2")?;
        fixture.agent.kill(Signal::KILL)?;
        // An operator who asks again finds out; the old generation drains after all.
        fixture.restart_agent()?;
        old.signal(Signal::USR1)?;
        let ended = flip.end(2 * SOON)?;
        ensure!(works(&fixture.agent.look()?, "gen2"), "not flipped");
        safe_if!(
            [0, 4, 5].contains(&ended.code),
            "the agent dies while flip waits for the drain: exit {}, which means that nothing \
             has changed, and gen2 works: {}",
            ended.code,
            ended.stderr.trim()
        );
        Ok(Verdict::Safe)
    })
}
