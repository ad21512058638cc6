//! A15: a listener that a server opens and never accepts from keeps its share of the connections.

use anyhow::Result;
use synflip_bed::{Fixture, wait::SECOND};

use crate::{
    black_box::{Operate as _, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a15_a_listener_without_an_accept_loop_is_a_black_hole() -> Result<()> {
    hazard("A15", || {
        let fixture = Fixture::new()?;
        let spec = fixture.spec(1, 4).program("synflip-hazard-server");
        let _server = fixture.start(&spec.args(&["--accept-from", "1"]))?;
        fixture.agent.wait_works("gen1")?;
        // What is queued before it is noticed is served later.
        let answers = ask(&fixture.net, 24, 4 * SECOND)?;
        safe_if!(
            answers.lost() == 0,
            "one of four listeners is accepted from: of 24 clients {} hang and {} are reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}
