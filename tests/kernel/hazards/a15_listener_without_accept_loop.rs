//! A15: a listener that a server opens and never accepts from, or no longer, keeps its share of the
//! connections.

use anyhow::Result;
use synflip_bed::{Fixture, wait::SECOND};

use crate::{
    black_box::{Operate as _, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a15a_a_listener_without_an_accept_loop_is_a_black_hole() -> Result<()> {
    hazard("A15a", || {
        share_of(
            &["--accept-from", "1"],
            "one of four listeners is accepted from",
        )
    })
}

#[test]
fn a15b_an_accept_loop_panics() -> Result<()> {
    hazard("A15b", || {
        share_of(&["--panic-one"], "one of four accept loops has panicked")
    })
}

/// What clients get of a server with four listeners that does not accept from all of them.
fn share_of(args: &[&str], what: &str) -> Result<Verdict> {
    let fixture = Fixture::new()?;
    let spec = fixture.spec(1, 4).program("synflip-hazard-server");
    let _server = fixture.start(&spec.args(args))?;
    fixture.agent.wait_works("gen1")?;
    // A loop that panics takes one of these along.
    ask(&fixture.net, 24, SECOND)?;
    // What is queued before it is noticed is served later.
    let answers = ask(&fixture.net, 24, 4 * SECOND)?;
    safe_if!(
        answers.lost() == 0,
        "{what}: of 24 clients {} hang and {} are reset",
        answers.hung,
        answers.reset
    );
    Ok(Verdict::Safe)
}
