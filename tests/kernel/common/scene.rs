//! One namespace with an agent in it, and a client that stops wherever a test wants.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use synflip_bed::{
    Family, Netns,
    product::{Agent, Generation, Operator, Options, Spec},
    raw::{self, HalfOpen, RawClient, Reply},
    wait,
};
use synflip_wire::{GenerationStatus, Phase, ServiceStatus};

/// What clients send.
pub(crate) const REQUEST: &[u8; 8] = b"12345678";
/// For what happens within milliseconds, except on a slow virtual machine, and for drains that
/// wait for a retransmission.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The agent, the wire of the raw client, and where servers listen.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) client: RawClient,
    pub(crate) netns: Netns,
    pub(crate) family: Family,
    pub(crate) to: SocketAddr,
    last_client: AtomicU16,
}

impl Scene {
    /// Sets the parameters before anything begins.
    pub(crate) fn new(family: Family, sysctls: &[(&str, &str)]) -> Result<Self> {
        Self::with(family, sysctls, &[])
    }

    /// The same, with arguments for the agent.
    pub(crate) fn with(family: Family, sysctls: &[(&str, &str)], args: &[&str]) -> Result<Self> {
        let args = args.iter().map(ToString::to_string).collect();
        let options = Options {
            args,
            ..Options::default()
        };
        let netns = Netns::new()?;
        for (key, value) in sysctls {
            netns.sysctl(key, value)?;
        }
        let client = RawClient::new(&netns)?;
        Ok(Self {
            agent: Agent::start_with(&netns, options)?,
            client,
            netns,
            family,
            to: (raw::server(family), 4000).into(),
            last_client: AtomicU16::new(1),
        })
    }

    pub(crate) fn spec(&self, number: u32, listeners: usize) -> Spec {
        Spec::new(number, self.to, listeners)
    }

    /// Starts a generation; the first one works when this returns.
    pub(crate) fn start(&self, spec: &Spec) -> Result<Generation> {
        let generation = Generation::start(&self.netns, &self.agent, spec)?;
        wait::until("a generation works", SOON, || {
            self.service()
                .is_ok_and(|service| service.working.is_some())
        })?;
        Ok(generation)
    }

    /// An address that no client has had, and a port.
    pub(crate) fn fresh(&self) -> SocketAddr {
        let number = self.last_client.fetch_add(1, Relaxed) + 1;
        raw::client(self.family, number, 5000 + number)
    }

    /// Begins handshakes and stops before their last step.
    pub(crate) fn half_open(&self, count: u64) -> Result<Vec<HalfOpen>> {
        (0..count)
            .map(|_| {
                let mut half_open = self.client.syn(self.fresh(), self.to)?;
                let reply = half_open.recv_syn_ack(SOON)?;
                ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
                Ok(half_open)
            })
            .collect()
    }

    /// The status of the service, without a process for each look.
    pub(crate) fn service(&self) -> Result<ServiceStatus> {
        Operator::new(&self.agent)?.service()
    }

    fn generation(&self, name: &str) -> Result<GenerationStatus> {
        let service = self.service()?;
        let mut all = service.generations.into_iter();
        all.find(|generation| generation.name.as_str() == name)
            .with_context(|| format!("no {name}"))
    }

    /// What is queued and half-open on a generation's listeners.
    pub(crate) fn pending(&self, generation: &str) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for listener in self.generation(generation)?.listeners {
            let (queued, half_open) = listener.queued.zip(listener.half_open).context("unknown")?;
            sum = (sum.0 + queued, sum.1 + half_open);
        }
        Ok(sum)
    }

    pub(crate) fn wait_pending(&self, generation: &str, queued: u64, half_open: u64) -> Result<()> {
        let what = format!("{queued} queued and {half_open} half-open on {generation}");
        wait::until(&what, SOON, || {
            self.pending(generation)
                .is_ok_and(|pending| pending == (queued, half_open))
        })
        .with_context(|| format!("{:?}", self.pending(generation)))
    }

    pub(crate) fn wait_phase(&self, generation: &str, phase: Phase) -> Result<()> {
        wait::until(&format!("{generation} {}", phase.as_str()), SOON, || {
            self.generation(generation)
                .is_ok_and(|generation| generation.phase == phase)
        })
        .with_context(|| self.agent.log())
    }

    pub(crate) fn wait_gone(&self, generation: &str) -> Result<()> {
        wait::until(&format!("{generation} gone"), SOON, || {
            let service = self.service();
            service.is_ok_and(|s| s.generations.iter().all(|g| g.name.as_str() != generation))
        })
        .with_context(|| self.agent.log())
    }

    /// Checks that so many connections went through the program, and none past it.
    pub(crate) fn check_steered(&self, connections: u64) -> Result<()> {
        self.agent.check_counters()?;
        let endpoints = self.service()?.endpoints;
        let selected: u64 = endpoints.iter().map(|endpoint| endpoint.selected).sum();
        ensure!(
            selected >= connections,
            "{connections} connections: {endpoints:?}"
        );
        Ok(())
    }
}

/// Does the last step of a handshake, and a request; returns the generation that served it.
pub(crate) fn complete(half_open: &mut HalfOpen) -> Result<u32> {
    half_open.ack()?;
    half_open.send(REQUEST)?;
    receive(half_open)
}

/// Receives the answer and the end of the stream.
pub(crate) fn receive(half_open: &mut HalfOpen) -> Result<u32> {
    let answer = match half_open.recv_data(SOON)? {
        Reply::Data(answer) => answer,
        other => bail!("no answer but {other:?}"),
    };
    let end = half_open.recv_data(SOON)?;
    ensure!(end == Reply::Fin, "no end but {end:?}");
    half_open.rst()?;
    generation(&answer)
}

/// The generation's number in an answer.
pub(crate) fn generation(answer: &[u8]) -> Result<u32> {
    ensure!(answer.starts_with(REQUEST), "{answer:?}");
    let number = answer.get(8..12).and_then(|number| number.try_into().ok());
    Ok(u32::from_le_bytes(number.context("a short answer")?))
}
