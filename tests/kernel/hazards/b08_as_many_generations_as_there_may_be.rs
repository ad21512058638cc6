//! B8: a service with as many generations as there may be does not survive a restart of the agent.

use anyhow::{Result, ensure};
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
fn b08_64_generations_and_a_restart_of_the_agent() -> Result<()> {
    hazard("B8", || {
        let mut fixture = Fixture::new()?;
        let mut servers = vec![first(&fixture, &[])?];
        while servers.len() < GENERATIONS {
            let number = u32::try_from(servers.len() + 1)?;
            servers.push(fixture.start(&fixture.spec(number, 1))?);
        }
        fixture.restart_agent()?;
        let mut back = 0;
        let all = wait::until("all are back", 15 * SECOND, || {
            let service = fixture.agent.look().unwrap_or_default();
            let generations = service["generations"].as_array();
            back = generations.map_or(0, |all| {
                let back = |one: &&serde_json::Value| {
                    one["pids"].as_array().is_some_and(|pids| !pids.is_empty())
                };
                all.iter().filter(back).count()
            });
            back == GENERATIONS
        });
        ensure!(servers.len() == GENERATIONS);
        let log = fixture.agent.log();
        let refused = log
            .lines()
            .rev()
            .find(|line| line.contains("generations"))
            .unwrap_or("the agent says nothing of them");
        safe_if!(
            all.is_ok(),
            "{back} of {GENERATIONS} generations come back: {refused}"
        );
        Ok(Verdict::Safe)
    })
}

/// As many as the agent takes.
const GENERATIONS: usize = 64;
