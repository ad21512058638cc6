//! What the agent says of itself.
//!
//! The loop says what it knows; the figures come from the services' threads, and whoever asked gets
//! the answer when all have come.

use synflip_bpf::{BpfError, Variant};
use synflip_plan::{Asker, Link, Phase, ProcessId, Role};
use synflip_types::EndpointId;
use synflip_wire::{
    AgentStatus, EndpointStatus, GenerationStatus, HoldStatus, ListenerStatus, Name, Refusal,
    RelayStatus, Reply, ServiceStatus, Status,
};
use tokio::sync::oneshot;

use crate::{
    effects::{Survey, Task},
    error::kernel,
    foreign::Foreign,
    peers::{Outgoing, Peers},
    registry::Registry,
    service::Service,
    timeline::unix_ms,
};

/// A service's status but for its figures, which are on their way.
struct Pending {
    status: ServiceStatus,
    endpoints: Vec<EndpointId>,
    figures: oneshot::Receiver<Result<Survey, BpfError>>,
}

impl Registry {
    /// Answers a request for the status of one service, or of all.
    pub(crate) fn status_for(
        &self,
        by: Asker,
        service: Option<&Name>,
        turn: oneshot::Sender<()>,
    ) -> Result<(), Refusal> {
        let only = service.map(|name| self.named(Some(name))).transpose()?;
        let (agent, services) = self.survey(only.as_ref());
        let Some(to) = self.peers.outbox(by.process) else {
            return Ok(());
        };
        tokio::spawn(async move {
            let reply = match complete(agent, services).await {
                Ok(status) => Reply::Status(status),
                Err(refusal) => Reply::Refused(refusal),
            };
            let (id, fds) = (Some(by.request), Foreign::default());
            // One that does not read what it has asked for has gone, or soon will have.
            drop(to.messages.send(Outgoing { id, reply, fds }).await);
            drop(turn);
        });
        Ok(())
    }

    /// Answers a scrape.
    pub(crate) fn scraped(&self, answer: oneshot::Sender<Status>) {
        let (agent, services) = self.survey(None);
        tokio::spawn(async move {
            match complete(agent, services).await {
                // Whoever asked may have gone away.
                Ok(status) => drop(answer.send(status)),
                Err(refusal) => tracing::warn!("metrics: {refusal}"),
            }
        });
    }

    fn survey(&self, only: Option<&Name>) -> (AgentStatus, Vec<Pending>) {
        let agent = AgentStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at_ms: self.started_at_ms,
            kernel: kernel_release(),
            migration: self.setting.variant == Variant::SelectOrMigrate,
        };
        let services = self.services.values();
        // One that is over is there until its pins are gone.
        let wanted = services.filter(|service| only.is_none_or(|only| *only == service.name));
        let owner = |name| self.host.owner(name).unwrap_or(0);
        let relayed = |name| {
            let counts = self.setting.relay.counts(name);
            RelayStatus {
                open: counts.open,
                total: counts.total,
            }
        };
        let pending = wanted.map(|service| {
            let name = &service.name;
            service.survey(owner(name), &self.peers, relayed(name))
        });
        (agent, pending.collect())
    }
}

async fn complete(agent: AgentStatus, services: Vec<Pending>) -> Result<Status, Refusal> {
    let mut complete = Vec::with_capacity(services.len());
    for service in services {
        let Pending {
            mut status,
            endpoints,
            figures,
        } = service;
        // Its thread has ended if there are none: so has the service.
        let Ok(figures) = figures.await else { continue };
        let figures = figures.map_err(|error| kernel(&error))?;
        add_figures(&mut status, &endpoints, &figures);
        complete.push(status);
    }
    let services = complete;
    Ok(Status { agent, services })
}

fn add_figures(status: &mut ServiceStatus, endpoints: &[EndpointId], figures: &Survey) {
    for (id, endpoint) in endpoints.iter().zip(&mut status.endpoints) {
        if let Some(outcomes) = figures.outcomes.get(id) {
            endpoint.runs = outcomes.runs;
            endpoint.selected = outcomes.selected;
            endpoint.migrated = outcomes.migrated;
            endpoint.no_table = outcomes.no_table;
            endpoint.fell_back = outcomes.fell_back;
        }
    }
    let listeners = status.generations.iter_mut().flat_map(|g| &mut g.listeners);
    for listener in listeners {
        let slot = listener.slot;
        if let Some(synflip_plan::Reading::Pending(pending)) = figures.readings.get(&slot) {
            listener.queued = Some(pending.queued.into());
            listener.half_open = Some(pending.half_open().into());
        } else if figures.readings.get(&slot) == Some(&synflip_plan::Reading::Stopped) {
            (listener.queued, listener.half_open) = (Some(0), Some(0));
        }
        if let Some(selections) = figures.selections.get(&slot) {
            listener.selected = selections.selected;
            listener.retried = selections.retried;
            listener.migrated = selections.migrated;
        }
    }
}

/// The kernel's release.
pub(crate) fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

impl Service {
    fn survey(&self, owner_uid: u32, peers: &Peers, relayed: RelayStatus) -> Pending {
        let machine = &self.machine;
        let (answer, figures) = oneshot::channel();
        let endpoints: Vec<EndpointId> = machine.places().keys().copied().collect();
        self.worker.give(Task::Survey {
            slots: machine.listeners().keys().copied().collect(),
            endpoints: endpoints.clone(),
            answer,
        });
        Pending {
            status: self.without_figures(owner_uid, peers, relayed),
            endpoints,
            figures,
        }
    }

    fn without_figures(
        &self,
        owner_uid: u32,
        peers: &Peers,
        relayed: RelayStatus,
    ) -> ServiceStatus {
        let machine = &self.machine;
        let name_of = |id| {
            machine
                .generation(id)
                .map(|generation| generation.name.clone())
        };
        let endpoints = machine.places().iter().map(|(id, place)| {
            let listeners = machine.listeners().values();
            let tombstones = listeners
                .filter(|listener| listener.endpoint == *id && listener.role == Role::Tombstone);
            EndpointStatus {
                endpoint: place.address,
                runs: 0,
                selected: 0,
                migrated: 0,
                no_table: 0,
                fell_back: 0,
                tombstones: u32::try_from(tombstones.count()).unwrap_or(u32::MAX),
                strangers: place.strangers,
            }
        });
        ServiceStatus {
            name: self.name.clone(),
            owner_uid,
            epoch: machine.epoch(),
            working: machine.working().and_then(name_of),
            previous: machine.previous().and_then(name_of),
            endpoints: endpoints.collect(),
            generations: machine
                .generations()
                .iter()
                .map(|generation| self.generation(generation, peers))
                .collect(),
            timeline: self.timeline.entries(),
            relayed,
            hold: self.hold(),
        }
    }

    /// The hold that ends last, if nobody accepts somewhere.
    fn hold(&self) -> Option<HoldStatus> {
        let places = self.machine.places().values();
        let since = places.filter_map(|place| place.unserved_since).max()?;
        let ago = self.moment() - since;
        let since_ms = unix_ms().saturating_sub(ago);
        let ends_at_ms = since_ms.saturating_add(self.machine.rules().hold);
        Some(HoldStatus {
            since_ms,
            ends_at_ms,
        })
    }

    /// A process's number. One that an earlier agent knew is shown when it is not waited for any
    /// more.
    fn pid(&self, process: ProcessId, peers: &Peers) -> Option<u32> {
        let connected = peers.get(process).map(|peer| peer.pid);
        connected.or_else(|| {
            let known = self.machine.processes().get(&process)?;
            let pid = self.inherited.get(&process)?;
            (known.link == Link::Adopted).then_some(*pid)
        })
    }

    fn generation(&self, generation: &synflip_plan::Generation, peers: &Peers) -> GenerationStatus {
        let machine = &self.machine;
        let mut pids: Vec<u32> = Vec::new();
        let (mut listeners, mut accepting) = (Vec::new(), false);
        let members = machine.listeners().iter().filter(|(_, listener)| {
            listener.generation == generation.id && listener.role != Role::Tombstone
        });
        for (slot, listener) in members {
            accepting |= listener.accepts();
            let holders = listener.holders.keys();
            let held_by: Vec<u32> = holders
                .filter_map(|process| self.pid(*process, peers))
                .collect();
            for pid in &held_by {
                if !pids.contains(pid) {
                    pids.push(*pid);
                }
            }
            let Some(place) = machine.places().get(&listener.endpoint) else {
                continue;
            };
            listeners.push(ListenerStatus {
                slot: *slot,
                endpoint: place.address,
                held_by,
                custody: listener.custody,
                stuck: listener.stuck.is_some() && listener.is_held(),
                queued: None,
                half_open: None,
                selected: 0,
                retried: 0,
                migrated: 0,
            });
        }
        GenerationStatus {
            name: generation.name.clone(),
            phase: phase(generation.phase),
            accepting: Some(accepting),
            in_service: (generation.phase == Phase::Leaving)
                .then(|| machine.clients_of(generation.id)),
            pids,
            listeners,
        }
    }
}

fn phase(phase: Phase) -> synflip_wire::Phase {
    match phase {
        Phase::Registered => synflip_wire::Phase::Registered,
        Phase::Ready => synflip_wire::Phase::Ready,
        Phase::Working => synflip_wire::Phase::Working,
        Phase::Draining => synflip_wire::Phase::Draining,
        Phase::Leaving => synflip_wire::Phase::Leaving,
        Phase::Standby => synflip_wire::Phase::Standby,
        Phase::Drained => synflip_wire::Phase::Drained,
    }
}
