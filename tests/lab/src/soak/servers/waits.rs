//! Waiting until the service is as it has to be.

use anyhow::{Context as _, Result};
use synflip_bed::{
    fixture::works,
    product::name,
    wait::{MS, SOON},
};
use synflip_wire::ServiceStatus;

use super::Servers;

impl Servers<'_> {
    /// Waits until the agent's account is as wanted.
    pub(in crate::soak) fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&ServiceStatus) -> bool,
    ) -> Result<()> {
        self.look(what, |_, service| Ok(wanted(service)))
    }

    /// Waits until a generation works: from now on it is the one that must not go.
    pub(in crate::soak) fn wait_working(&mut self, number: u32) -> Result<()> {
        let name = name(number);
        self.until(&format!("{name} works"), |service| works(service, &name))?;
        self.turn_to(number);
        Ok(())
    }

    /// Waits until nothing is left of any other generation than the working one.
    pub(in crate::soak) fn wait_alone(&mut self) -> Result<()> {
        self.settle("only the working generation is left", |servers, service| {
            let mut all = servers.processes.iter();
            service.generations.len() == 1
                && servers.holds(service)
                && all.all(|one| one.number == servers.working)
        })
    }

    /// Waits until every listener that the agent holds is that of a living server. What is queued
    /// on another one is only in the agent's hands, and would be lost with it: systemd keeps those
    /// of an agent that it supervises.
    pub(in crate::soak) fn wait_served(&mut self) -> Result<()> {
        self.settle("every listener has a server", Self::holds)?;
        // What was just handed over is taken by then.
        self.pause(50 * MS)
    }

    /// Whether the agent holds as many listeners as living servers have.
    fn holds(&self, service: &ServiceStatus) -> bool {
        let held = service.generations.iter().map(|one| one.listeners.len());
        let served = self.processes.iter().map(|one| one.listeners);
        held.sum::<usize>() == served.sum::<usize>()
    }

    /// As [`Self::until`], and looks after those that end meanwhile, as they were told to.
    pub(super) fn settle(
        &mut self,
        what: &str,
        wanted: impl Fn(&Self, &ServiceStatus) -> bool,
    ) -> Result<()> {
        self.look(what, |servers, service| {
            servers.reap()?;
            Ok(wanted(servers, service))
        })
    }

    fn look(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&mut Self, &ServiceStatus) -> Result<bool>,
    ) -> Result<()> {
        let (interrupt, mut last) = (self.interrupt, None);
        let waited = interrupt.until(what, SOON, || {
            let service = last.insert(self.fixture.agent.service()?);
            wanted(self, service)
        });
        waited.with_context(|| format!("{last:#?}"))
    }
}
