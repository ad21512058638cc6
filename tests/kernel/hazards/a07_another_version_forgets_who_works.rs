//! A7: an agent that cannot read what the one before it has noted forgets who works: the first
//! server that comes back does, a standby as well.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use synflip_bed::{Fixture, product::Version2};

use crate::{
    black_box::{Operate as _, PATIENCE, ask, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a07_another_version_forgets_who_works() -> Result<()> {
    hazard("A7", || {
        let mut fixture = Fixture::new()?;
        let _old = first(&fixture, &[])?;
        let new = fixture.start(&fixture.spec(2, 2))?;
        let flip = ["flip", "--to", "gen2", "--keep", "--json"];
        fixture.agent.told(&flip)?;
        fixture.agent.kill(Signal::KILL)?;
        let pins = fixture.agent.bpffs().join("synflip");
        let version = fs::read_dir(&pins)?.next().context("no pins")??.path();
        if version.ends_with("v2") {
            // The programs are of that version, and know no other.
            fs::rename(version, pins.join("v0")).context("make them another version's")?;
        } else {
            Version2::downgrade(fixture.agent.bpffs(), "web")?;
        }

        // gen2 is slower than gen1, by chance.
        new.signal(Signal::STOP)?;
        fixture.restart_agent()?;
        is_back(&fixture, "gen1")?;
        new.signal(Signal::CONT)?;
        is_back(&fixture, "gen2")?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.from(2) == 20,
            "gen2 worked when an agent of another version came: of 20 clients {} go to gen1, a \
             standby",
            answers.from(1)
        );
        Ok(Verdict::Safe)
    })
}

/// Waits until a server has registered with the agent that runs now.
fn is_back(fixture: &Fixture, name: &str) -> Result<Value> {
    fixture
        .agent
        .wait_until(&format!("{name} is back"), |service| {
            let back = |generation: &Value| {
                generation["name"] == name
                    && generation["pids"] != json!([])
                    && generation["phase"] != "registered"
            };
            let generations = service["generations"].as_array();
            generations.is_some_and(|all| all.iter().any(back))
        })
}
