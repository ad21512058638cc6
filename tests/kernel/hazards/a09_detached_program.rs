//! A9: a program that a member of the group takes away is missed only at the next event.

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Fixture, detach_program,
    wait::{self, SECOND},
};

use crate::{
    black_box::{PATIENCE, ask, first},
    peer::listen,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a09_a_detached_program_stays_away() -> Result<()> {
    hazard("A9", || {
        let fixture = Fixture::new()?;
        let net = &fixture.net;
        let _old = first(&fixture, &[])?;
        let unready = ["--never-ready", "--stop-accepting"];
        let _new = fixture.start(&fixture.spec(2, 2).args(&unready))?;
        let before = ask(net, 20, PATIENCE)?;
        ensure!(before.from(1) == 20, "{before:?}");
        let stranger = listen(net, net.address, 1, 100)?
            .pop()
            .context("a listener")?;
        detach_program(&stranger)?;
        drop(stranger);
        // Nothing happens that the agent would be told.
        wait::pause(2 * SECOND);
        let answers = ask(net, 20, PATIENCE)?;
        safe_if!(
            answers.from(1) == 20,
            "two seconds after a member has detached the program: of 20 clients {} hang on \
             listeners that are not ready",
            answers.lost()
        );
        Ok(Verdict::Safe)
    })
}
