//! B1: a panic in the task that decides leaves an agent that lives and answers nobody.

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use synflip_bed::{
    Fixture,
    product::Spec,
    wait::{self, SECOND},
};

use crate::{
    black_box::{Operate as _, second_port},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b01_the_zombie() -> Result<()> {
    hazard("B1", || {
        let mut fixture = Fixture::new()?;
        let other = second_port(&fixture.net);
        let on_other = |number| Spec::new(number, other, 1);
        let _a = fixture.start(&fixture.spec(1, 1))?;
        let b = fixture.start(&on_other(1).joins("gen1"))?;
        fixture.agent.wait_until("both of gen1 work", |service| {
            service["timeline"].to_string().contains("works with 2")
        })?;
        fixture.agent.kill(Signal::KILL)?;
        b.kill()?;
        fixture.restart_agent()?;
        fixture
            .agent
            .wait_until("the first process is back", |service| {
                let pids = service["generations"][0]["pids"].as_array();
                pids.is_some_and(|pids| !pids.is_empty())
            })?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        // Whether the flip is refused is another matter (A4). The agent has to outlive it; or, if it
        // cannot go on, to end, so that somebody starts it again.
        let flip = ["flip", "--to", "gen2", "--timeout", "2", "--json"];
        wait::until("the agent has dealt with the flip", 20 * SECOND, || {
            let flip = fixture.agent.tried(&flip);
            flip.is_ok_and(|cli| !cli.stderr.contains("not ready"))
        })?;
        let status = fixture
            .agent
            .tried(&["status"])
            .context("ask for a status")?;
        safe_if!(
            status.code == 0 || fixture.agent.has_ended(),
            "the agent's process lives and every command ends with {}: {}",
            status.code,
            status.stderr.trim()
        );
        Ok(Verdict::Safe)
    })
}
