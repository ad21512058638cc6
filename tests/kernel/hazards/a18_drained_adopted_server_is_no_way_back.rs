//! A18: after a flip an adopted server that still runs is lost as a way back.

use anyhow::Result;
use synflip_bed::{
    Fixture,
    wait::{self, MS},
};

use crate::{
    black_box::{Operate as _, PATIENCE, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a18_after_a_flip_the_adopted_old_server_is_lost_as_a_way_back() -> Result<()> {
    hazard("A18", || {
        let fixture = Fixture::new()?;
        let _old = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        let new = fixture.adopted(&fixture.spec(2, 2))?;
        fixture.agent.told(&["flip", "--to", "gen2", "--json"])?;
        new.kill()?;
        // Noticed within a second, as it would be of a server that links the helper.
        wait::pause(1000 * MS);
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.lost() == 0,
            "gen2 is dead and gen1 accepts: of 20 clients {} hang and {} are reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}
