//! A3: whoever leaves last on purpose closes what another process has left when it was killed.

use anyhow::Result;
use synflip_bed::{Fixture, product::Spec, wait::SOON};

use crate::{
    black_box::{Operate as _, PATIENCE, await_all, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a03_whoever_leaves_last_closes_what_others_left() -> Result<()> {
    hazard("A3", || {
        let fixture = Fixture::new()?;
        let old = first(&fixture, &["--stop-accepting"])?;
        let queued = fixture.net.clients(5)?;
        // It fails its own check, and stops in good order.
        let checked = |spec: Spec| fixture.start(&spec.arg("--never-ready"));
        let new = checked(fixture.spec(2, 2))?;
        old.kill()?;
        fixture.agent.wait_until("gen1 is gone", |service| {
            service["generations"][0]["pids"] == serde_json::json!([])
        })?;
        new.signal(rustix::process::Signal::TERM)?;
        new.wait_exit(SOON)?;
        // Within the hold time, somebody comes who accepts.
        let _next = fixture.start(&fixture.spec(3, 2))?;
        let answers = await_all(queued, PATIENCE)?;
        safe_if!(
            answers.from(3) == 5,
            "of 5 connections in a dead server's queue {} are reset and {} hang, because a server \
             that was never ready has stopped",
            answers.reset,
            answers.hung
        );
        Ok(Verdict::Safe)
    })
}
