//! A22: after a restart of the agent a flip away from an adopted generation does not end.

use anyhow::Result;
use synflip_bed::{Fixture, wait};

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a22_a_flip_away_from_an_adopted_generation_after_a_restart_of_the_agent() -> Result<()> {
    hazard("A22", || {
        let mut fixture = Fixture::new()?;
        let _old = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        fixture.restart_agent()?;
        // The new one has to come back first; until then it is refused.
        let mut last = None;
        let flip = ["flip", "--to", "gen2", "--timeout", "4"];
        wait::until("the flip is not refused", wait::SOON, || {
            last = fixture.agent.tried(&flip).ok();
            last.as_ref().is_some_and(|cli| cli.code != 1)
        })?;
        let Some(cli) = last else {
            anyhow::bail!("no flip")
        };
        safe_if!(
            cli.code != 4,
            "the flip has committed and hangs until its deadline: {}",
            cli.stdout.lines().last().unwrap_or_default()
        );
        anyhow::ensure!(cli.code == 0, "{cli:?}");
        Ok(Verdict::Safe)
    })
}
