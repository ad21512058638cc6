//! What an operator does to the service.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{LIMIT, World, name, works};
use synflip_bed::product::{Cli, Running};

impl World<'_> {
    /// Runs a command to its end; it must succeed.
    pub(in crate::soak) fn succeed(&self, args: &[&str]) -> Result<()> {
        let Cli {
            code,
            stdout,
            stderr,
        } = self.agent.cli(args)?;
        ensure!(code == 0, "{args:?} ended with {code}: {stdout}{stderr}");
        Ok(())
    }

    /// Flips to a generation that is ready, and waits for the drain.
    pub(in crate::soak) fn flip(&mut self, to: u32) -> Result<()> {
        self.succeed(&flip_to(&name(to)))?;
        self.wait_working(to)
    }

    /// Begins the same.
    pub(in crate::soak) fn begin_flip(&self, to: u32) -> Result<Running> {
        self.agent.begin(&flip_to(&name(to)))
    }

    /// Brings to its end a flip that may have been begun, committed or never asked for.
    pub(in crate::soak) fn complete_flip(&mut self, to: u32) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !works(&self.service()?, to) {
            // Refused while it is under way, or while its server is not back at the agent.
            let Cli { code, stderr, .. } = self.agent.cli(&flip_to(&name(to)))?;
            if code != 0 && Instant::now() > deadline {
                bail!("flip to gen{to} ended with {code}: {stderr}");
            }
        }
        self.turn_to(to);
        Ok(())
    }
}

fn flip_to(name: &str) -> [&str; 6] {
    ["flip", "--to", name, "--timeout", "60", "--json"]
}
