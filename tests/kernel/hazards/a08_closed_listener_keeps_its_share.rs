//! A8: a living process that closes one of its listeners is not noticed: a duplicate stays in the
//! table, and nobody accepts from it. (One that it shuts down the kernel takes out by itself.)

use anyhow::{Result, ensure};
use synflip_bed::{Fixture, wait::SECOND};

use crate::{
    bare::Bare,
    black_box::{PATIENCE, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a08_a_closed_listener_keeps_its_share() -> Result<()> {
    hazard("A8", || {
        let fixture = Fixture::new()?;
        let mut server = Bare::first(&fixture, 2)?;
        let before = ask(&fixture.net, 20, PATIENCE)?;
        ensure!(before.lost() == 0, "{before:?}");
        server.close(0);
        // What is queued before it is noticed is served later.
        let answers = ask(&fixture.net, 20, 4 * SECOND)?;
        safe_if!(
            answers.lost() == 0,
            "one of two listeners is closed, its process lives: of 20 clients {} hang and {} are \
             reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}
