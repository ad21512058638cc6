//! A24: a tombstone takes connections as soon as the program does not select, and nobody watches.

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Setup, detach_program,
    wait::{self, MS, SECOND, SOON},
};

use crate::{
    black_box::{Operate as _, ask, first},
    peer::listen,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a24_a_tombstone_is_a_black_hole_when_the_program_is_gone() -> Result<()> {
    hazard("A24", || {
        // There the oldest listener is the first of its bucket, and stays open.
        let fixture = Setup::new().family(Family::V6).start()?;
        let old = first(&fixture, &[])?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        fixture.agent.told(&["flip", "--to", "gen2", "--json"])?;
        old.wait_exit(SOON)?;
        fixture.agent.wait_until("a tombstone is left", |service| {
            let generations = service["generations"].as_array().map_or(0, Vec::len);
            service["endpoints"][0]["tombstones"] == 1 && generations == 1
        })?;
        // Whatever is said to the agent now would have it look.
        wait::pause(500 * MS);
        // Any member of the group may do that: here one that listens for a moment only.
        for member in listen(&fixture.net, fixture.net.address, 1, 1)? {
            detach_program(&member).context("detach the program")?;
        }
        let answers = ask(&fixture.net, CLIENTS, 3 * SECOND)?;
        ensure!(!answers.by.is_empty(), "nobody answers at all: {answers:?}");
        safe_if!(
            answers.hung == 0,
            "after a member has detached the program {} of {CLIENTS} clients stall",
            answers.hung
        );
        Ok(Verdict::Safe)
    })
}

const CLIENTS: usize = 64;
