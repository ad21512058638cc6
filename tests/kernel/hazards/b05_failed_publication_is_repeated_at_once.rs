//! B5: a publication that fails is repeated at once, for ever.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use synflip_bed::{
    Fixture,
    wait::{self, SECOND},
};

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b05_a_publication_that_fails_is_repeated_at_once() -> Result<()> {
    hazard("B5", || {
        let fixture = Fixture::new()?;
        let _first = first(&fixture, &[])?;
        let second = fixture.start(&fixture.spec(2, 2).joins("gen1"))?;
        fixture.agent.wait_until("both work", |service| {
            service["timeline"].to_string().contains("works with 4")
        })?;
        // It has all of the first descriptors in use: a new table cannot be made.
        let pid = i32::try_from(fixture.agent.pid())?;
        let limit = Rlimit {
            current: Some(FEW),
            maximum: Some(FEW),
        };
        prlimit(Pid::from_raw(pid), Resource::Nofile, limit).context("limit the agent")?;
        second.kill()?;
        wait::pause(SECOND);
        let before = fixture.agent.processor_time()?;
        wait::pause(2 * SECOND);
        let used = fixture.agent.processor_time()? - before;
        safe_if!(
            used < Duration::from_millis(200),
            "the agent, which is out of descriptors, uses {} ms of processor time in 2 s",
            used.as_millis()
        );
        Ok(Verdict::Safe)
    })
}

/// Fewer than an agent has open, whatever it closes.
const FEW: u64 = 5;
