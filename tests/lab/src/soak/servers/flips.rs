//! What an operator does to the servers.

use std::time::Instant;

use anyhow::{Result, ensure};
use synflip_bed::{
    fixture::works,
    product::{Cli, Running, name},
    wait::SOON,
};

use super::Servers;

impl Servers<'_> {
    /// Runs a command to its end; it must succeed.
    pub(in crate::soak) fn succeed(&self, args: &[&str]) -> Result<()> {
        self.fixture.agent.succeed(args).map(drop)
    }

    /// Flips to a generation that is ready, and waits for the drain.
    pub(in crate::soak) fn flip(&mut self, to: u32) -> Result<()> {
        self.succeed(&flip_to(&name(to)))?;
        self.wait_working(to)
    }

    /// Begins the same.
    pub(in crate::soak) fn begin_flip(&self, to: u32) -> Result<Running> {
        self.fixture.agent.begin(&flip_to(&name(to)))
    }

    /// Brings to its end a flip that may have been begun, committed or never asked for.
    pub(in crate::soak) fn complete_flip(&mut self, to: u32) -> Result<()> {
        let (begun, to_name) = (Instant::now(), name(to));
        while !works(&self.fixture.agent.service()?, &to_name) {
            // Refused while it is under way, or while its server is not back at the agent.
            let Cli { code, stderr, .. } = self.fixture.agent.cli(&flip_to(&to_name))?;
            ensure!(
                code == 0 || begun.elapsed() < SOON,
                "flip to {to_name} ended with {code}: {stderr}"
            );
        }
        self.turn_to(to);
        Ok(())
    }
}

fn flip_to(name: &str) -> [&str; 6] {
    ["flip", "--to", name, "--timeout", "60", "--json"]
}
