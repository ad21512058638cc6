//! C12: a container that starts again, in a new network namespace, is refused.

use anyhow::Result;
use synflip_bed::{Fixture, Netns, product::Generation};

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c12_custody_keeps_a_new_namespace_out() -> Result<()> {
    hazard("C12", || {
        let fixture = Fixture::new()?;
        let old = first(&fixture, &[])?;
        old.kill()?;
        fixture.agent.wait_until("gen1 is dead", |service| {
            service["generations"][0]["pids"] == serde_json::json!([])
        })?;
        let container = Netns::new()?;
        let again = Generation::start(&container, &fixture.agent, &fixture.spec(2, 2));
        if let Err(error) = &again
            && !fixture.agent.log().contains("another network namespace")
        {
            anyhow::bail!("{error:#}");
        }
        safe_if!(
            again.is_ok(),
            "its only server is dead, and one that starts in a new network namespace is refused \
             for as long as the agent holds the old listeners"
        );
        Ok(Verdict::Safe)
    })
}
