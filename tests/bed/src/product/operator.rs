//! The operator without the command line: one connection, so that flips can follow each other
//! without a process for each, and the moment of the commit is known.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{Shutdown, shutdown};
use synflip_wire::{
    Certificate, Client, Committed, Name, Reply, Request, RequestId, ServiceStatus, Status, Target,
};

use crate::{product::Agent, wait::SOON};

/// An operator's connection to an agent that has one service.
#[derive(Debug)]
pub struct Operator {
    client: Client,
    /// The last flip, whose certificate is waited for.
    flip: RequestId,
}

impl Operator {
    /// Connects to the agent.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn new(agent: &Agent) -> Result<Self> {
        Self::at(&agent.socket())
    }

    /// Connects to an agent that a test has not started itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn at(socket: &Path) -> Result<Self> {
        let client = Client::connect(socket).context("connect to the agent")?;
        Ok(Self {
            client,
            flip: RequestId::default(),
        })
    }

    /// Flips and returns at the commit; with a drain time, [`Operator::drained`] has to follow.
    ///
    /// # Errors
    ///
    /// With the refusal.
    pub fn flip(&mut self, to: &str, keep: bool, drain: Duration) -> Result<Committed> {
        let request = Request::Flip {
            service: None,
            to: Target::Generation(name(to)?),
            if_epoch: None,
            drain_ms: u64::try_from(drain.as_millis()).context("a drain time")?,
            keep,
            drop_endpoints: Vec::new(),
        };
        self.flip = self.client.send(&request, &[])?;
        match self.client.answer(self.flip, SOON)? {
            Reply::Committed(committed) => Ok(committed),
            other => bail!("flip to {to}: {other:?}"),
        }
    }

    /// Waits for the certificate of the last flip, at most `limit`.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub fn drained(&mut self, limit: Duration) -> Result<Certificate> {
        loop {
            match self
                .client
                .answer(self.flip, limit)
                .context("wait for the drain")?
            {
                Reply::Drained(certificate) => return Ok(certificate),
                Reply::Draining(_) => {}
                other => bail!("no certificate but {other:?}"),
            }
        }
    }

    /// The status of the service.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one.
    pub fn service(&mut self) -> Result<ServiceStatus> {
        let mut services = self.status()?.services;
        ensure!(services.len() == 1, "{} services", services.len());
        services.pop().context("no service")
    }

    pub(super) fn status(&mut self) -> Result<Status> {
        let status = Request::Status { service: None };
        match self.client.ask(&status, SOON)? {
            Reply::Status(status) => Ok(status),
            other => bail!("status: {other:?}"),
        }
    }

    /// Waits until the agent, too, has closed the connection.
    pub(super) fn leave(mut self) -> Result<()> {
        shutdown(&self.client, Shutdown::Write)?;
        while self.client.receive(Some(SOON)).is_ok() {}
        Ok(())
    }

    /// Forgets a generation that is not working.
    ///
    /// # Errors
    ///
    /// With the refusal.
    pub fn retire(&mut self, generation: &str) -> Result<()> {
        let request = Request::Retire {
            service: None,
            generation: name(generation)?,
            force: false,
        };
        match self.client.ask(&request, SOON)? {
            Reply::Done => Ok(()),
            other => bail!("retire {generation}: {other:?}"),
        }
    }
}

fn name(text: &str) -> Result<Name> {
    text.parse().with_context(|| format!("name {text:?}"))
}
