//! A service that is flipped there and back, of this commit or of another.
//!
//! By the command line: the protocol of another commit's agent is spoken by its own programs only.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use synflip_bed::{
    Fixture, Setup,
    product::{Drained, Generation, Spec},
    wait::{self, SOON},
};

/// Two generations, one of which is working and the other on standby.
pub(super) struct Service {
    // They end before the agent does.
    _generations: [Generation; 2],
    fixture: Fixture,
    flips: u32,
}

/// How long a flip took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// To fill the table, to swap it and to wait for the grace period, as the agent says.
    pub(super) commit: f64,
    /// All of the command: `flip --no-wait`, from its start to its end.
    pub(super) command: f64,
}

impl Service {
    /// Starts agent and servers; their programs are in `programs`, if not in this workspace.
    pub(super) fn start(programs: Option<&Path>, ports: u16, listeners: usize) -> Result<Self> {
        let fixture = Setup::new().programs(programs).start()?;
        let first = fixture.net.address;
        let address = |port| (first.ip(), first.port() + port).into();
        let start = |number| {
            fixture.start(&Spec {
                listen: (0..ports).map(address).collect(),
                ..fixture.spec(number, listeners)
            })
        };
        Ok(Self {
            // The first one works at once.
            _generations: [start(1)?, start(2)?],
            fixture,
            flips: 0,
        })
    }

    /// Flips to the generation that is not working, and waits until the other one is on standby.
    pub(super) fn flip(&mut self) -> Result<Took> {
        let names = ["gen2", "gen1"];
        let to = names[self.flips as usize % names.len()];
        self.flips += 1;
        let args = ["flip", "--json", "--no-wait", "--keep", "--to", to];
        let begun = Instant::now();
        let cli = self.fixture.agent.succeed(&args)?;
        let command = begun.elapsed().as_secs_f64() * 1000.0;
        let flipped: Drained =
            serde_json::from_str(&cli.stdout).context("read the output of flip --json")?;
        wait::until("the other generation is on standby", SOON, || {
            self.is_at_rest().unwrap_or(false)
        })?;
        Ok(Took {
            commit: flipped.flip.commit_ms,
            command,
        })
    }

    /// Whether nothing drains any more.
    fn is_at_rest(&self) -> Result<bool> {
        let cli = self.fixture.agent.succeed(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&cli.stdout).context("read the status")?;
        let generations = status["services"][0]["generations"].as_array();
        let generations = generations.context("the status has no generations")?;
        Ok(generations.iter().any(|one| one["phase"] == "standby"))
    }
}
