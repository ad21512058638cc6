//! C14: a generation of which one process is ready gets everything.

use anyhow::{Result, ensure};
use synflip_bed::Fixture;

use crate::{
    black_box::{Operate as _, first, works},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c14_one_ready_worker_is_enough_for_a_flip() -> Result<()> {
    hazard("C14", || {
        let fixture = Fixture::new()?;
        let _old = first(&fixture, &[])?;
        let more = fixture.spec(1, 2).joins("gen1");
        let _more = fixture.start(&more)?;
        let _one = fixture.start(&fixture.spec(2, 1))?;
        let rest = fixture.spec(2, 3).joins("gen2").arg("--never-ready");
        let _rest = fixture.start(&rest)?;
        let flip = fixture.agent.tried(&["flip", "--to", "gen2"])?;
        let now = fixture.agent.look()?;
        ensure!(works(&now, "gen2") == (flip.code == 0), "{flip:?}: {now:#}");
        // It may refuse, or do it and warn.
        safe_if!(
            flip.code != 0 || flip.stderr.contains("ready"),
            "1 of gen2's 4 listeners is ready, gen1 has 4, and flip says no more than {:?}",
            flip.stdout.lines().next().unwrap_or_default()
        );
        Ok(Verdict::Safe)
    })
}
