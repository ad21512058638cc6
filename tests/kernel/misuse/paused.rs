//! Promise: nothing is lost when a server shuts its listeners down and listens again, as some do
//! to pause: nobody's descriptor keeps a listener from that.

use anyhow::{Result, ensure};
use synflip_bed::{Family, Line, Setup, capability, network::FAST_OPEN};
use synflip_wire::Event;

use crate::helpers::{
    bare::{ASKED, Bare, came_to},
    points::Points,
};

/// The kernel takes a listener that shuts down out of its slot, and does not put it back.
#[test]
fn who_listens_again_gets_nothing_until_it_registers_again() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let mut old = Bare::start(&fixture, 1, 2)?;
        old.is_told(Event::Working)?;
        let new = Bare::start(&fixture, 2, 2)?;
        fixture.agent.flip_with("gen2", &["--keep"])?;
        old.is_told(Event::Standby)?;
        old.shut_down()?;
        for resumed in [false, true] {
            if resumed {
                old.resume()?;
            }
            let back = fixture.agent.cli(&["rollback", "--keep"])?;
            ensure!(back.code == 1, "a flip to what is in no slot: {back:?}");
            let text = &back.stderr;
            ensure!(
                text.contains("shut down") && text.contains("register it again"),
                "{text}"
            );
            let came = came_to(&fixture, &[&old, &new])?;
            ensure!(came[..2] == [0, 0], "resumed {resumed}: {came:?}");
        }
        old.leave()?;
        fixture.wait_gone("gen1")?;
        old.come_back(&fixture)?;
        fixture.agent.flip("gen1")?;
        let came = came_to(&fixture, &[&old, &new])?;
        ensure!(came[..2].iter().all(|count| *count > 0), "{came:?}");
        ensure!(came[2..] == [0, 0], "{came:?}");
        fixture.check_steered(3 * ASKED as u64)
    })
}

/// What was pending moves to the generation that is there, which nobody has flipped to yet.
#[test]
fn a_server_that_shuts_down_before_the_flip_loses_nothing() -> Result<()> {
    if !capability::needs("migration") {
        return Ok(());
    }
    Family::both(|family| {
        let (key, value) = FAST_OPEN;
        let setup = Setup::new().family(family).line(Line::Raw);
        let fixture = setup.sysctl(key, value).start()?;
        let mut old = Bare::start(&fixture, 1, 1)?;
        old.is_told(Event::Working)?;
        let mut points = Points::reach(&fixture, "gen1")?;
        let new = Bare::start(&fixture, 2, 1)?;
        old.shut_down()?;
        points.go_on(&fixture, Some("gen2"))?;
        new.serve(Points::COUNT)?;
        points.are_answered_by(2)?;
        let came = came_to(&fixture, &[&old, &new])?;
        ensure!(came[1] == ASKED, "{came:?}");
        fixture.agent.flip("gen2")?;
        old.is_told(Event::Drained)?;
        let came = came_to(&fixture, &[&old, &new])?;
        ensure!(came[1] == ASKED, "{came:?}");
        Ok(())
    })
}
