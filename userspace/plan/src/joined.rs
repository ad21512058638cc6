//! The end of a registration: its listeners are in place and the process is told so, or all of it
//! is taken back. Then: the process is ready.

use synflip_types::{EndpointId, Epoch, GenerationId, Slot};

use crate::{
    Answer, Asker, Effect, Event, Happened, Link, Moment, NoteState, Phase, PlanError, ProcessId,
    Role, Service, join::Joining, time::Retry,
};

impl Service {
    /// The kernel has not taken a listener: its registration is refused when all has been tried.
    pub(crate) fn not_filled(&mut self, slot: Slot, why: &str) {
        for join in self.joins.values_mut() {
            if join.new.contains(&slot) || join.known.contains(&slot) {
                join.refused.get_or_insert_with(|| why.to_owned());
            }
        }
    }

    /// The program is on the groups: what was registered before is in place.
    pub(crate) fn attached(
        &mut self,
        join: Option<ProcessId>,
        result: Result<(), String>,
        now: Moment,
    ) {
        let Some(process) = join else {
            if result.is_err() {
                self.void_look();
                let mut retry = self.attach.unwrap_or_else(|| Retry::now(now));
                retry.later(now, self.rules.publish);
                self.attach = Some(retry);
            } else {
                self.attach = None;
            }
            return;
        };
        let Some(joining) = self.joins.remove(&process) else {
            return;
        };
        match joining.refused.clone().map_or(result, Err) {
            Ok(()) => self.joined(process, &joining, now),
            Err(why) => {
                self.undo(process, &joining);
                self.refuse(joining.answer, PlanError::Kernel { why });
                self.forget_if_empty(joining.generation);
                self.closing_soon(now);
            }
        }
    }

    /// Takes back a registration that has failed: the process has what it had before.
    fn undo(&mut self, process: ProcessId, joining: &Joining) {
        for slot in &joining.new {
            let Some(listener) = self.listeners.get_mut(slot) else {
                continue;
            };
            listener.holders.remove(&process);
            let endpoint = listener.endpoint;
            let is_held = listener.is_held();
            let mut joins = self.joins.values_mut();
            if let Some(other) = joins.find(|other| other.known.contains(slot)) {
                // Another process is registering the same listener: it is that one's now.
                other.known.retain(|known| known != slot);
                other.taken_up.retain(|known| known != slot);
                other.new.push(*slot);
            } else if is_held {
                self.note(*slot);
            } else if self.has_others_at(endpoint, &joining.new) {
                self.let_go_in_order(*slot);
            } else {
                self.close(*slot, 0);
            }
        }
        for slot in &joining.taken_up {
            if let Some(listener) = self.listeners.get_mut(slot)
                && listener.holders.remove(&process).is_some()
            {
                self.note(*slot);
            }
        }
        let mut listeners = self.listeners.values();
        if !listeners.any(|listener| listener.holders.contains_key(&process)) {
            self.processes.remove(&process);
        }
    }

    /// Whether an endpoint has listeners besides these, which a close must not hit.
    fn has_others_at(&self, endpoint: EndpointId, these: &[Slot]) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|(slot, l)| l.endpoint == endpoint && !these.contains(slot))
    }

    /// Lets go of a listener that was refused. The process may have ended since, or end at any
    /// moment: then the agent's duplicate is the last one, and `closing` decides when it can be
    /// closed.
    fn let_go_in_order(&mut self, slot: Slot) {
        if let Some(listener) = self.listeners.get_mut(&slot) {
            listener.custody = true;
            self.keep_as_tombstone(slot);
            self.relieved = true;
        }
    }

    fn joined(&mut self, process: ProcessId, joining: &Joining, now: Moment) {
        let generation = joining.generation;
        let both = joining.new.iter().chain(&joining.known).copied();
        // If the process has died meanwhile, those that were known may have been closed since.
        let all: Vec<Slot> = both
            .filter(|slot| self.listeners.contains_key(slot))
            .collect();
        for slot in &all {
            if let Some(listener) = self.listeners.get_mut(slot)
                && listener.role == Role::Joining
            {
                (listener.role, listener.custody) = (Role::Member, true);
            }
            self.put(Effect::Store { slot: *slot });
        }
        self.relieved = true;
        let listeners = all.len();
        if joining.known.is_empty() {
            self.record(generation, Happened::Registered { listeners });
        } else {
            self.record(generation, Happened::Back { listeners });
            self.prepare(&all);
        }
        let Some(name) = self.generation(generation).map(|g| g.name.clone()) else {
            return;
        };
        let answer = Answer::Registered { generation: name };
        match self.processes.get(&process).map(|process| process.link) {
            // Answered when nothing is being published: if this was the first generation, it works then.
            Some(Link::Adopted) => {
                self.make_ready(process);
                self.answers.push((joining.answer, answer));
            }
            _ => self.answer(joining.answer, answer),
        }
        let talks = self
            .processes
            .get(&process)
            .is_some_and(|process| process.link == Link::Connected);
        if talks
            && !joining.known.is_empty()
            && let Some(event) = self.what_happened_to(generation)
        {
            self.put(Effect::Tell { to: process, event });
        }
        self.forget_if_empty(generation);
        self.closing_soon(now);
    }

    /// What a process that has come back has missed.
    fn what_happened_to(&self, generation: GenerationId) -> Option<Event> {
        // It is being flipped back to, and will be told so.
        if self.is_mentioned(generation) && self.working != Some(generation) {
            return None;
        }
        match self.generation(generation)?.phase {
            Phase::Working => Some(Event::Working),
            Phase::Draining => Some(Event::Draining),
            Phase::Leaving => Some(Event::Leaving),
            Phase::Standby => Some(Event::Standby),
            // If it was retired, something may be pending on it still: it is told so, not `drained`.
            Phase::Drained => match self.generation(generation)?.departure {
                Some(NoteState::Leaving(Epoch(0))) => Some(Event::Retired),
                _ => Some(Event::Drained),
            },
            Phase::Registered | Phase::Ready => None,
        }
    }

    /// A process accepts connections now.
    pub(crate) fn ready(&mut self, by: Asker) {
        if self.processes.contains_key(&by.process) {
            self.make_ready(by.process);
            self.answer(by, Answer::Done);
        } else {
            self.refuse(by, PlanError::NotMember);
        }
    }

    fn make_ready(&mut self, process: ProcessId) {
        let Some(generation) = self
            .processes
            .get(&process)
            .map(|process| process.generation)
        else {
            return;
        };
        let mut news = Vec::new();
        for (slot, listener) in &mut self.listeners {
            if let Some(ready) = listener.holders.get_mut(&process)
                && !*ready
            {
                *ready = true;
                news.push(*slot);
            }
        }
        if let Some(generation) = self.generation_mut(generation)
            && generation.phase == Phase::Registered
        {
            generation.phase = Phase::Ready;
        }
        news.into_iter().for_each(|slot| self.note(slot));
        self.record(generation, Happened::Ready);
    }

    /// A descriptor has been taken from a process that lives.
    pub(crate) fn fetched(&mut self, slot: Slot, now: Moment) {
        let Some(listener) = self.listeners.get_mut(&slot) else {
            return;
        };
        listener.custody = true;
        self.put(Effect::Attach { join: None });
        self.put(Effect::Store { slot });
        self.prepare(&[slot]);
        self.relieved = true;
        self.closing_soon(now);
        self.drains
            .iter_mut()
            .for_each(|drain| drain.retry.soon(now));
    }

    /// Gives listeners the options that their generation's phase asks for.
    pub(crate) fn prepare(&mut self, slots: &[Slot]) {
        for slot in slots {
            let Some(listener) = self.listeners.get(slot) else {
                continue;
            };
            let phase = self.generation(listener.generation).map(|g| g.phase);
            let draining = matches!(
                phase,
                Some(Phase::Draining | Phase::Leaving | Phase::Standby | Phase::Drained)
            );
            self.put(Effect::Prepare {
                slot: *slot,
                draining,
            });
        }
    }
}
