//! Who dies while an agent follows the other leaves what it would have left at any other time.

use std::sync::Arc;

use anyhow::Result;
use rustix::process::Signal;
use synflip_bed::{Family, product::Store};

use crate::release::Release;

#[test]
fn what_is_queued_outlives_servers_that_die_while_there_is_no_agent() -> Result<()> {
    let store = Arc::new(Store::new()?);
    let mut release = Release::new(Family::V4, Some(&store))?;
    // As systemd stops it.
    release.end_agent(Signal::TERM)?;
    release.kill(&["gen2", "gen3"])?;
    release.start_new_agent()?;
    release.old_pins_are_gone()?;
    release.queued_are_answered_by(4)?;
    release.succeed_it()?;
    release.finish().map(drop)
}

#[test]
fn an_agent_that_dies_in_the_middle_is_followed_by_another() -> Result<()> {
    let store = Arc::new(Store::new()?);
    let mut release = Release::new(Family::V6, Some(&store))?;
    release.end_agent(Signal::KILL)?;
    release.start_new_agent()?;
    release.end_agent(Signal::KILL)?;
    release.start_new_agent()?;
    release.is_carried_over()?;
    release.succeed_it()?;
    release.draining_goes_on()?;
    release.finish().map(drop)
}
