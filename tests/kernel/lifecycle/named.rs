//! Promise: a flip goes to the generation that was named, or nowhere.

use anyhow::{Result, ensure};
use synflip_bed::{Fixture, wait::SOON};

use crate::helpers::refused;

#[test]
fn a_flip_goes_to_the_generation_that_was_named_or_nowhere() -> Result<()> {
    let fixture = Fixture::new()?;
    let refused = |args: &[&str], text| refused::refused(&fixture.agent, args, text);
    let _first = fixture.first(&[])?;
    refused(&["flip", "--to", "gen7"], "there is no generation \"gen7\"")?;
    refused(
        &["flip", "--to", "gen1"],
        "is the working generation already",
    )?;
    refused(
        &["flip", "--to", "gen1", "--service", "mail"],
        "there is no service",
    )?;
    refused(&["rollback"], "no generation to roll back to")?;
    ensure!(
        fixture.agent.service()?.epoch.0 == 1,
        "a refused flip counts"
    );

    let _second = fixture.generation(2, &[])?;
    let third = fixture.generation(3, &[])?;
    let flipped = fixture.agent.flip("latest")?;
    ensure!(
        flipped.flip.to.as_str() == "gen3" && flipped.flip.epoch.0 == 2,
        "{flipped:?}"
    );
    ensure!(fixture.net.answers(20)? == [3; 20], "others answer");
    fixture.wait_gone("gen1")?;
    // It is the newest, and working.
    refused(
        &["flip", "--to", "latest"],
        "is the working generation already",
    )?;
    let flipped = fixture.agent.flip("gen2")?;
    ensure!(flipped.flip.epoch.0 == 3, "{flipped:?}");
    let exit = third.wait_exit(SOON)?;
    ensure!(exit.accepted == 20 && exit.served == 20, "{exit:?}");
    fixture.agent.check_counters()
}
