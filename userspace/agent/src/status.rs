//! What the agent says of itself.

use synflip_bpf::Variant;
use synflip_plan::{Pending, Phase};
use synflip_wire::{
    AgentStatus, Endpoint, EndpointStatus, Epoch, GenerationStatus, ListenerStatus, Name, Refusal,
    RelayStatus, ServiceStatus, Slot, Status,
};

use crate::{error::kernel, peers::Peers, registry::Registry, service::Service};

/// The status of one service, or of all.
pub(crate) fn of(registry: &mut Registry, service: Option<&Name>) -> Result<Status, Refusal> {
    let agent = AgentStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at_ms: registry.started_at_ms,
        kernel: kernel_release(),
        migration: registry.context.variant == Variant::SelectOrMigrate,
    };
    let only = service.map(|name| registry.named(Some(name))).transpose()?;
    let peers = &registry.context.peers;
    let services = registry
        .services
        .iter_mut()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only == *name))
        .map(|(_, service)| service.status(peers))
        .collect::<Result<_, _>>()?;
    Ok(Status { agent, services })
}

/// The kernel's release.
pub(crate) fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

impl Service {
    fn status(&mut self, peers: &Peers) -> Result<ServiceStatus, Refusal> {
        let slots: Vec<_> = self.custody.keys().copied().collect();
        let pending = self.pending(&slots);
        let plan = &self.plan;
        let name_of = |id| {
            plan.generation(id)
                .and_then(|g| g.name.parse::<Name>().ok())
        };
        let mut endpoints = Vec::new();
        for (endpoint, address) in (0..).zip(plan.endpoints()) {
            let outcomes = self
                .steering
                .outcomes(endpoint)
                .map_err(|error| kernel(&error))?;
            let buried = plan
                .tombstones()
                .iter()
                .filter(|m| m.endpoint == endpoint)
                .count();
            endpoints.push(EndpointStatus {
                endpoint: Endpoint::tcp(*address),
                runs: outcomes.runs,
                selected: outcomes.selected,
                migrated: outcomes.migrated,
                no_table: outcomes.no_table,
                fell_back: outcomes.fell_back,
                tombstones: u32::try_from(buried).unwrap_or(u32::MAX),
            });
        }
        let mut generations = Vec::new();
        for generation in plan.generations() {
            let mut pids: Vec<u32> = Vec::new();
            let mut listeners = Vec::new();
            for member in &generation.members {
                let peer = peers.get(member.process).filter(|_| member.served);
                let pid = peer.map(|peer| peer.pid);
                if let Some(pid) = pid.filter(|pid| !pids.contains(pid)) {
                    pids.push(pid);
                }
                let Some(address) = plan.endpoints().get(member.endpoint as usize) else {
                    continue;
                };
                let found = pending.iter().find(|(slot, _)| *slot == member.slot);
                let found: Option<Pending> = found.map(|(_, pending)| *pending);
                let selections = self
                    .steering
                    .selections(member.slot)
                    .map_err(|error| kernel(&error))?;
                listeners.push(ListenerStatus {
                    slot: Slot(member.slot),
                    endpoint: Endpoint::tcp(*address),
                    held_by: pid.into_iter().collect(),
                    custody: self.custody.contains_key(&member.slot),
                    queued: found.map(|pending| u64::from(pending.queued)),
                    half_open: found.map(|pending| u64::from(pending.half_open())),
                    selected: selections.selected,
                    retried: selections.retried,
                    migrated: selections.migrated,
                });
            }
            let Ok(name) = generation.name.parse() else {
                continue;
            };
            let phase = phase(generation.phase);
            generations.push(GenerationStatus {
                name,
                phase,
                accepting: Some(generation.members.iter().any(|m| m.ready && m.served)),
                in_service: None,
                pids,
                listeners,
            });
        }
        Ok(ServiceStatus {
            name: self.name.clone(),
            owner_uid: self.owner_uid,
            epoch: Epoch(plan.epoch()),
            working: plan.working().and_then(name_of),
            previous: plan.previous().and_then(name_of),
            endpoints,
            generations,
            relayed: RelayStatus::default(),
            hold: None,
            timeline: self.timeline.entries(),
        })
    }
}

fn phase(phase: Phase) -> synflip_wire::Phase {
    match phase {
        Phase::Registered => synflip_wire::Phase::Registered,
        Phase::Ready => synflip_wire::Phase::Ready,
        Phase::Working => synflip_wire::Phase::Working,
        Phase::Draining => synflip_wire::Phase::Draining,
        Phase::Standby => synflip_wire::Phase::Standby,
        Phase::Drained => synflip_wire::Phase::Drained,
    }
}
