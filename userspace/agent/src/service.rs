//! One service in the registry: its machine, the thread that carries its effects out, and what is
//! said of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use synflip_plan::{Answer, Effect, EffectKind, Event, Input, Moment, ProcessId};
use synflip_types::{Endpoint, GenerationId, RequestId};
use synflip_wire::{Committed, DrainEnd, Name, Reply};

use crate::{
    certificate::DrainRecord,
    effects::{Task, Worker},
    error::planned,
    peers::Peers,
    timeline::{Timeline, unix_ms},
};

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) machine: synflip_plan::Service,
    pub(crate) timeline: Timeline,
    pub(crate) worker: Worker,
    /// When the machine is to be told that time has passed.
    pub(crate) wake: Option<Instant>,
    /// The processes that an earlier agent knew, and their numbers.
    pub(crate) inherited: BTreeMap<ProcessId, u32>,
    /// The generations that there were before the last fact.
    names: BTreeMap<GenerationId, Name>,
    /// The drains that somebody waits for.
    records: Vec<DrainRecord>,
    /// How long the last publication took.
    commit: Duration,
    /// The clock's zero.
    started: Instant,
}

impl Service {
    pub(crate) fn new(
        name: Name,
        machine: synflip_plan::Service,
        worker: Worker,
        started: Instant,
    ) -> Self {
        Self {
            name,
            machine,
            timeline: Timeline::default(),
            worker,
            wake: None,
            inherited: BTreeMap::new(),
            names: BTreeMap::new(),
            records: Vec::new(),
            commit: Duration::ZERO,
            started,
        }
    }

    /// Tells the machine a fact, and has done what it wants; false if that cannot be, because the
    /// service's thread has ended.
    pub(crate) fn on(&mut self, input: Input, peers: &Peers) -> bool {
        if let Input::Readings(readings) = &input {
            self.records
                .iter_mut()
                .for_each(|record| record.add(readings));
        }
        self.learn_names();
        let effects = self.machine.on(input, self.moment());
        self.carry_out(effects, peers)
    }

    /// Remembers the names of the generations that there are, for what is said of one that this
    /// fact is the end of.
    fn learn_names(&mut self) {
        let generations = self.machine.generations().iter();
        self.names = generations
            .map(|generation| (generation.id, generation.name.clone()))
            .collect();
    }

    /// The kernel follows the table that was to be published.
    pub(crate) fn published(&mut self, took: Duration, peers: &Peers) -> bool {
        self.commit = took;
        self.on(Input::Published(Ok(())), peers)
    }

    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>, peers: &Peers) -> bool {
        let lost = |effect: &Effect| match effect {
            Effect::Close { lost, .. } => *lost,
            _ => 0,
        };
        let lost: u32 = effects.iter().map(lost).sum();
        if lost > 0 {
            tracing::warn!(service = %self.name, lost, "listeners are closed, and what is pending on them is lost");
        }
        effects
            .into_iter()
            .all(|effect| self.dispatch(effect, peers))
    }

    /// Keeps time and the timeline; makes messages of what peers are told; leaves the rest to the
    /// service's thread.
    fn dispatch(&mut self, effect: Effect, peers: &Peers) -> bool {
        let kind = effect.kind();
        match effect {
            Effect::Wake { at } => {
                self.wake = Some(self.started + Duration::from_millis(at.0));
                true
            }
            Effect::Record { generation, what } => {
                let name = generation.map(|id| self.generation_name(id));
                let entry = self.timeline.record(&self.name, name.as_ref(), &what);
                self.worker.give(Task::Append(entry))
            }
            Effect::Answer { to, answer } => {
                let hint = matches!(answer, Answer::Draining { .. });
                let Some(reply) = self.reply(answer) else {
                    return true;
                };
                if hint {
                    peers.hint(to, reply);
                    return true;
                }
                self.send(to.process, kind, Some(to.request), reply, peers)
            }
            Effect::Tell { to, event } => {
                self.send(to, kind, None, Reply::Event(wire_event(event)), peers)
            }
            Effect::Lend { slot, to } => match peers.outbox(to) {
                Some(to) => self.worker.give(Task::Lend { slot, to }),
                None => true,
            },
            Effect::Close { slot, .. } => {
                self.records
                    .iter_mut()
                    .for_each(|record| record.closed(slot));
                self.worker.give(Task::Effect(effect))
            }
            effect => self.worker.give(Task::Effect(effect)),
        }
    }

    fn send(
        &self,
        to: ProcessId,
        kind: EffectKind,
        id: Option<RequestId>,
        reply: Reply,
        peers: &Peers,
    ) -> bool {
        match peers.outbox(to) {
            Some(to) => self.worker.give(Task::Send {
                to,
                kind,
                id,
                reply,
            }),
            None => true,
        }
    }

    /// What a peer is told.
    fn reply(&mut self, answer: Answer) -> Option<Reply> {
        Some(match answer {
            Answer::Registered { generation } => Reply::Registered {
                service: self.name.clone(),
                generation,
            },
            Answer::Done => Reply::Done,
            Answer::Refused(error) => Reply::Refused(planned(self.name.as_str(), &error)),
            Answer::Committed(flip) => Reply::Committed(self.committed(&flip)),
            Answer::Draining { generation } => {
                let record = self.record_of(Some(generation))?;
                Reply::Draining(self.records[record].total())
            }
            Answer::DrainOver { generation, end } => {
                let record = self.record_of(generation)?;
                let certificate = self.records[record].certificate(drain_end(end));
                self.records.remove(record);
                Reply::Drained(certificate)
            }
        })
    }

    fn record_of(&self, generation: Option<GenerationId>) -> Option<usize> {
        self.records
            .iter()
            .position(|record| record.generation == generation)
    }

    fn committed(&mut self, flip: &synflip_plan::Flip) -> Committed {
        let committed = Committed {
            service: self.name.clone(),
            from: flip.from.map(|id| self.generation_name(id)),
            to: self.generation_name(flip.to),
            epoch: flip.epoch,
            listeners: flip.listeners,
            commit_ms: self.commit.as_secs_f64() * 1e3,
            committed_at_ms: unix_ms(),
            lacks: self.lacks(flip.to),
        };
        // Also those that the agent has no duplicate of: as long as it cannot see them, the
        // certificate must not call them empty.
        let old = self.machine.listeners().iter().filter(|(_, listener)| {
            Some(listener.generation) == flip.from && listener.role != synflip_plan::Role::Tombstone
        });
        let old = old.filter_map(|(slot, listener)| {
            let place = self.machine.places().get(&listener.endpoint)?;
            Some((*slot, place.address))
        });
        let record = DrainRecord::new(flip.from, committed.clone(), old);
        // A record of an earlier flip away from the same generation may be left, if nobody waited
        // for its drain.
        self.records.retain(|other| other.generation != flip.from);
        self.records.push(record);
        committed
    }

    /// The endpoints at which a generation has nobody, while somebody has.
    fn lacks(&self, id: GenerationId) -> Vec<Endpoint> {
        let places = self.machine.places();
        let lacks = self.machine.lacks(id);
        let address = |id| Some(places.get(&id)?.address);
        lacks.into_iter().filter_map(address).collect()
    }

    pub(crate) fn generation_name(&self, id: GenerationId) -> Name {
        let generation = self.machine.generation(id);
        let name = generation.map(|generation| &generation.name);
        name.or_else(|| self.names.get(&id))
            .unwrap_or(&self.name)
            .clone()
    }

    pub(crate) fn moment(&self) -> Moment {
        moment(self.started)
    }
}

/// Now, by the machines' clock.
pub(crate) fn moment(started: Instant) -> Moment {
    Moment(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
}

const fn wire_event(event: Event) -> synflip_wire::Event {
    match event {
        Event::Working => synflip_wire::Event::Working,
        Event::Draining => synflip_wire::Event::Draining,
        Event::Leaving => synflip_wire::Event::Leaving,
        Event::Standby => synflip_wire::Event::Standby,
        Event::Drained => synflip_wire::Event::Drained,
        Event::Retired => synflip_wire::Event::Retired,
        Event::Released => synflip_wire::Event::Released,
    }
}

const fn drain_end(end: synflip_plan::DrainEnd) -> DrainEnd {
    match end {
        synflip_plan::DrainEnd::Drained => DrainEnd::Drained,
        synflip_plan::DrainEnd::Standby => DrainEnd::Standby,
        synflip_plan::DrainEnd::DeadlinePassed => DrainEnd::DeadlinePassed,
        synflip_plan::DrainEnd::Serving => DrainEnd::Serving,
        synflip_plan::DrainEnd::Superseded => DrainEnd::Superseded,
    }
}
