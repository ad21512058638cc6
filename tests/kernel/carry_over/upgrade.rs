//! The new agent goes on where the old one was killed, and its servers take over from the old
//! ones.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Family, note};

use crate::release::{Release, at_both, begin_load, old_programs, on_a_line};

#[test]
fn an_upgrade_loses_no_connection() -> Result<()> {
    let mut release = Release::new(Family::V4, None)?;
    release.end_agent(Signal::KILL)?;
    release.start_new_agent()?;
    release.is_carried_over()?;
    // What was queued waits, and is answered where it is.
    release.succeed_it()?;
    release.draining_goes_on()?;
    // The generation that was kept is a way back.
    release.flip("gen2")?;
    release.flip("gen5")?;
    let report = release.finish()?;
    let by = &report.by_generation;
    ensure!(by.keys().eq(&[1, 2, 3, 4, 5]), "{report:?}");
    note(&format!("{} connections, by generation: {by:?}", report.ok));
    Ok(())
}

#[test]
fn the_same_clients_notice_a_restart_without_steering() -> Result<()> {
    let net = on_a_line(Family::V4).network()?;
    let programs = old_programs()?;
    let start = |number| net.plain(&at_both(&net, number).programs(&programs));
    let mut old = start(1)?;
    let load = begin_load(&net);
    for number in 2..12 {
        load.more(50)?;
        let new = start(number)?;
        std::mem::replace(&mut old, new).stop()?;
    }
    let report = load.finish()?;
    ensure!(report.lost > 0, "{report:?}");
    Ok(())
}
