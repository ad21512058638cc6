//! Promise: a successor that dies with a dead server's queue in its hands loses only what it has
//! accepted.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    fixture::find,
    network::{answered, answers},
    wait::{self, SOON},
};

use crate::helpers::{at_once::at_once, bare::Bare};

#[test]
fn what_was_lent_to_a_process_that_dies_first_goes_to_the_next() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let waiting = fixture.net.clients(20)?;
    // It is lent the queue, and accepts nothing.
    let second = fixture.generation(2, &["--stop-accepting"])?;
    first.signal(Signal::KILL)?;
    fixture.wait_works("gen2")?;
    wait::until("the queues are lent", SOON, || {
        fixture.agent.log().matches("its queue is lent").count() == 2
    })?;
    let _third = fixture.generation(3, &[])?;
    second.signal(Signal::KILL)?;
    ensure!(answers(waiting)? == [3; 20], "not all by the third");
    fixture.agent.check_counters()
}

#[test]
fn what_was_lent_to_one_that_dies_goes_to_the_next_or_waits_for_it() -> Result<()> {
    at_once([true, false], |next_is_there| {
        let fixture = Fixture::new()?;
        let first = fixture.first(&["--stop-accepting"])?;
        let mut waiting = fixture.net.clients(20)?;
        // The newest that is ready succeeds.
        let mut next = None;
        if next_is_there {
            next = Some(fixture.generation(3, &[])?);
        }
        let mut second = Bare::start(&fixture, 2, 1)?;
        first.signal(Signal::KILL)?;
        let lent = second.lent(&fixture.net, 2)?;
        // Some come to its own listener, which it does not look at.
        waiting.extend(fixture.net.clients(5)?);
        if !next_is_there {
            let status = fixture.agent.service()?;
            let queued = |name| -> Option<u64> {
                let listeners = find(&status, name)?.listeners.iter();
                listeners.map(|listener| listener.queued).sum()
            };
            ensure!(queued("gen1") == Some(20), "{status:#?}");
            ensure!(queued("gen2") == Some(5), "{status:#?}");
        }
        // It has taken one, and is dead before it says anything.
        let taken = lent.iter().find_map(|listener| listener.accept().ok());
        drop((second, lent));
        let third = match next {
            Some(next) => next,
            None => fixture.generation(3, &[])?,
        };
        drop(taken);
        // Who has been accepted dies with whom it was accepted by.
        let by: Vec<u32> = waiting.into_iter().flat_map(answered).collect();
        ensure!(by == [3; 24], "{by:?}\n{}", fixture.agent.log());
        // Nothing is waited for any more from those who are dead.
        fixture.until("only the third is left", |s| s.generations.len() == 1)?;
        drop(third);
        fixture.agent.check_counters()
    })
    .map(drop)
}
