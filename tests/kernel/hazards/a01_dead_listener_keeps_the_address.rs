//! A1: a working generation that has died stays in the table for the hold time, whatever else
//! listens in its group.

use anyhow::Result;
use synflip_bed::Fixture;

use crate::{
    black_box::{Operate as _, PATIENCE, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a01_the_corpse_that_holds_the_address() -> Result<()> {
    hazard("A1", || {
        let fixture = Fixture::new()?;
        let server = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        server.kill()?;
        // Its supervisor starts it again, and does not know of synflip.
        let _again = fixture.net.plain(&fixture.spec(2, 2))?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.lost() == 0,
            "of 20 clients {} hang and {} are reset, while somebody listens",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}
