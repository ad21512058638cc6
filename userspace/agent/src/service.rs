//! One service: all that the agent knows of it, and what its other parts share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use synflip_abi::MemberState;
use synflip_bpf::{Publisher, Steering};
use synflip_plan::{GenerationId, Pending, PlanError, ProcessId, Slot};
use synflip_wire::{Event, Name, Refusal, Reply};

use crate::{
    certificate::Drain,
    custody::Custody,
    error::{chain, planned},
    fault::{Faults, Point},
    flip::{Asked, Waiting},
    handover::Loans,
    queues::ListenTables,
    registry::Context,
    relay::Relays,
    timeline::Timeline,
};

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) owner_uid: u32,
    pub(crate) plan: synflip_plan::Service,
    pub(crate) steering: Steering,
    pub(crate) custody: BTreeMap<Slot, Custody>,
    /// None until a process has come whose network namespace it is.
    pub(crate) tables: Option<ListenTables>,
    pub(crate) timeline: Timeline,
    pub(crate) drains: Vec<Drain>,
    /// With the blocking task while a table is being published.
    pub(crate) publisher: Option<Publisher>,
    /// Who asked for the flip that is being committed.
    pub(crate) asked: Option<Asked>,
    /// A flip that has been asked for in the middle of a refresh.
    pub(crate) waiting: Option<Waiting>,
    /// Since when nobody accepts for it any more.
    pub(crate) unserved_since: Option<Instant>,
    /// Whether the last process to leave had closed its listeners on purpose.
    pub(crate) left_on_purpose: bool,
    /// When listeners that wait to be closed are looked at again.
    pub(crate) close_again: Option<Instant>,
    /// When this agent came to know of it.
    pub(crate) since: Instant,
    /// When listeners whose processes have not come back are looked at again.
    pub(crate) absent_again: Option<Instant>,
    pub(crate) loans: Loans,
    pub(crate) relays: Relays,
    /// Listeners to close whatever is pending on them.
    pub(crate) forced: BTreeSet<Slot>,
    pub(crate) faults: Faults,
}

impl Service {
    pub(crate) fn new(
        name: Name,
        owner_uid: u32,
        steering: Steering,
        publisher: Publisher,
        faults: Faults,
    ) -> Self {
        Self {
            name,
            owner_uid,
            plan: synflip_plan::Service::new(),
            steering,
            custody: BTreeMap::new(),
            tables: None,
            timeline: Timeline::default(),
            drains: Vec::new(),
            publisher: Some(publisher),
            asked: None,
            waiting: None,
            unserved_since: None,
            left_on_purpose: false,
            close_again: None,
            since: Instant::now(),
            absent_again: None,
            loans: Loans::default(),
            relays: Relays::default(),
            forced: BTreeSet::new(),
            faults,
        }
    }

    /// A process accepts connections.
    pub(crate) fn ready(&mut self, process: ProcessId, generation: &Name) {
        self.plan.ready(process);
        self.note(generation, "ready");
        self.faults.reach(Point::ReadyNoted);
    }

    /// A process no longer accepts.
    pub(crate) fn leave(&mut self, process: ProcessId, generation: &Name, on_purpose: bool) {
        let serves = |generation: &synflip_plan::Generation| {
            generation
                .members
                .iter()
                .any(|member| member.process == process && member.served)
        };
        if !self.plan.generations().iter().any(serves) {
            return;
        }
        self.plan.leave(process);
        self.unlend(process);
        self.left_on_purpose = on_purpose;
        let what = if on_purpose {
            "a process closed its listeners"
        } else {
            "a process is gone"
        };
        self.note(generation, what);
        self.faults.reach(Point::ProcessGone);
    }

    /// What is pending on these listeners, in the order of their hash buckets; those whose state
    /// is not known are left out.
    pub(crate) fn pending(&mut self, slots: &[Slot]) -> Vec<(Slot, Pending)> {
        let mut found = Vec::new();
        let Some(tables) = &mut self.tables else {
            return found;
        };
        for ipv6 in [false, true] {
            let by_inode: BTreeMap<u64, Slot> = slots
                .iter()
                .filter_map(|slot| self.custody.get(slot).map(|listener| (slot, listener)))
                .filter(|(_, listener)| listener.address.is_ipv6() == ipv6)
                .map(|(slot, listener)| (listener.inode, *slot))
                .collect();
            let inodes: Vec<u64> = by_inode.keys().copied().collect();
            match tables.read(ipv6, &inodes) {
                Ok(lines) => found.extend(
                    lines
                        .into_iter()
                        .filter_map(|line| Some((*by_inode.get(&line.inode)?, line.pending))),
                ),
                Err(error) => tracing::warn!(service = %self.name, "listener table: {error}"),
            }
        }
        for slot in slots {
            let Some(listener) = self.custody.get(slot) else {
                continue;
            };
            match found.iter_mut().find(|(found, _)| found == slot) {
                // The two ways to count must agree before "nothing" is believed.
                Some((_, pending)) if pending.is_empty() => {
                    if let Ok(queued @ 1..) = listener.accept_queue() {
                        *pending = Pending {
                            refcnt: queued + 1,
                            queued,
                        };
                    }
                }
                // Shut down by its server: what was pending has moved or ended with that.
                None if listener.has_stopped() => {
                    found.push((
                        *slot,
                        Pending {
                            refcnt: 1,
                            queued: 0,
                        },
                    ));
                }
                _ => {}
            }
        }
        found
    }

    /// Forgets a generation that is not working.
    pub(crate) fn retire(
        &mut self,
        generation: &Name,
        force: bool,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let refuse = |error: PlanError| planned(self.name.as_str(), &error);
        let id = self
            .plan
            .retire(generation.as_str(), force)
            .map_err(refuse)?;
        self.supersede(id, context);
        self.note_departure(id, MemberState::Leaving, 0);
        self.faults.reach(Point::Retired);
        if force && let Some(generation) = self.plan.generation(id) {
            self.forced
                .extend(generation.members.iter().map(|member| member.slot));
        }
        self.note(
            generation,
            if force { "retired by force" } else { "retired" },
        );
        self.tell(id, Event::Retired, context);
        Ok(())
    }

    /// Tells the processes of a generation what happened to it.
    pub(crate) fn tell(&self, id: GenerationId, event: Event, context: &mut Context) {
        let Some(generation) = self.plan.generation(id) else {
            return;
        };
        let mut told = Vec::new();
        for member in generation.members.iter().filter(|member| member.served) {
            if !told.contains(&member.process) {
                context.peers.send(member.process, Reply::Event(event));
                told.push(member.process);
            }
        }
    }

    /// The number of the endpoint with this address.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Option<u32> {
        (0..)
            .zip(self.plan.endpoints())
            .find(|(_, known)| **known == address)
            .map(|(e, _)| e)
    }

    /// Empties a slot; its listener is no longer selected by anything.
    pub(crate) fn clear(&mut self, slot: Slot) {
        if let Err(error) = self.steering.clear(slot) {
            tracing::warn!(service = %self.name, slot, "{}", chain(&error));
        }
    }

    pub(crate) fn note(&mut self, generation: &Name, what: impl Into<String>) {
        let entry = self.timeline.note(&self.name, generation, what);
        let (at_ms, generation) = (entry.at_ms, entry.generation.as_str());
        if let Err(error) = self.steering.append(at_ms, generation, &entry.what) {
            tracing::warn!(service = %self.name, "timeline: {}", chain(&error));
        }
    }

    pub(crate) fn generation_name(&self, id: GenerationId) -> Name {
        let name = self
            .plan
            .generation(id)
            .map(|generation| generation.name.clone());
        // The plan's names come from `Name`s or are `gen` and a number.
        let parsed = name.and_then(|name| name.parse().ok());
        parsed.unwrap_or_else(|| self.name.clone())
    }

    /// Whether the generation that new connections go to has lost its last process.
    pub(crate) fn works_unserved(&self) -> bool {
        let working = self.plan.working().and_then(|id| self.plan.generation(id));
        working.is_none_or(|generation| !generation.is_served())
    }
}
