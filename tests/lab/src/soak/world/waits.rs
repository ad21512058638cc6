//! Waiting until the service is as it has to be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use synflip_wire::ServiceStatus;

use super::{LIMIT, TICK, World, works};
use synflip_bed::product::Operator;

impl World<'_> {
    /// The agent's account.
    pub(in crate::soak) fn service(&mut self) -> Result<ServiceStatus> {
        let mut operator = match self.operator.take() {
            Some(operator) => operator,
            None => Operator::new(&self.agent)?,
        };
        let service = operator.service()?;
        self.operator = Some(operator);
        Ok(service)
    }

    /// Waits until the agent's account is as wanted.
    pub(in crate::soak) fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&ServiceStatus) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let service = self.service()?;
            if wanted(&service) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{what}: not within {LIMIT:?}: {service:#?}"
            );
            self.pause(TICK)?;
        }
    }

    /// Waits until a generation works: from now on it is the one that must not go.
    pub(in crate::soak) fn wait_working(&mut self, number: u32) -> Result<()> {
        self.until(&format!("gen{number} works"), |service| {
            works(service, number)
        })?;
        self.turn_to(number);
        Ok(())
    }

    /// Waits until nothing is left of any other generation than the working one.
    pub(in crate::soak) fn wait_alone(&mut self) -> Result<()> {
        self.wait_settled(
            "nothing but the working generation is left",
            |world, service| {
                service.generations.len() == 1
                    && world
                        .servers
                        .iter()
                        .all(|server| server.number == world.working)
            },
        )
    }

    /// Waits until every listener that the agent holds is that of a living server. What is queued
    /// on another one is only in the agent's hands, and would be lost with it: systemd keeps those
    /// of an agent that it supervises.
    pub(in crate::soak) fn wait_served(&mut self) -> Result<()> {
        self.wait_settled("every listener has a server", |_, _| true)?;
        // What was just handed over is taken by then.
        self.pause(HANDED_OVER)
    }

    fn wait_settled(
        &mut self,
        what: &str,
        wanted: impl Fn(&Self, &ServiceStatus) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.reap()?;
            let service = self.service()?;
            let held: usize = service
                .generations
                .iter()
                .map(|one| one.listeners.len())
                .sum();
            let served: usize = self.servers.iter().map(|server| server.listeners).sum();
            if held == served && wanted(self, &service) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{what}: not within {LIMIT:?}: {service:#?}"
            );
            self.pause(TICK)?;
        }
    }
}

/// For a process that lives to take what it is given.
const HANDED_OVER: Duration = Duration::from_millis(50);
