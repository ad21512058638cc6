//! C9: status says neither who asked for a flip nor that a service is held for a successor.

use anyhow::Result;
use synflip_bed::Fixture;

use crate::{
    black_box::{Operate as _, first},
    findings::Findings,
    verdict::hazard,
};

#[test]
fn c09_status_says_neither_who_nor_how_long() -> Result<()> {
    hazard("C9", || {
        let fixture = Fixture::new()?;
        let _old = first(&fixture, &[])?;
        let new = fixture.generation(2, &[])?;
        fixture.agent.told(&["flip", "--to", "gen2", "--json"])?;
        let mut found = Findings::default();
        let timeline = fixture.agent.look()?["timeline"].to_string();
        found.unless(
            timeline.contains("uid"),
            "the timeline does not say who asked for the flip",
        );
        new.kill()?;
        let mut service = fixture.agent.wait_until("gen2 is dead", |service| {
            let generations = service["generations"].as_array();
            generations.is_some_and(|all| {
                all.iter()
                    .all(|generation| generation["pids"].as_array().is_none_or(Vec::is_empty))
            })
        })?;
        // An operator looks at the state, not at its history.
        service["timeline"].take();
        found.unless(
            service.to_string().contains("hold"),
            format!(
                "{} is dead, and status shows it as working, without a process and without the \
                 time for which it is held",
                service["working"]
            ),
        );
        found.verdict()
    })
}
