//! One service: all that is known of it, and the one entry for what happens to it.

use std::{collections::BTreeMap, mem};

use synflip_types::{Endpoint, EndpointId, Epoch, GenerationId, Slot};

use crate::{
    Answer, Asker, Effect, Event, Generation, Happened, Input, Link, Listener, Moment, PlanError,
    Process, ProcessId, Rules, Table,
    drain::Drain,
    flip::{Change, Waiting},
    join::Joining,
    look::Look,
    time::Retry,
};

/// An address that listeners of a service are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address.
    pub address: Endpoint,
    /// Since when no process holds a listener there.
    pub unserved_since: Option<Moment>,
    /// Whether the hold is over, and its listeners are closed.
    pub given_up: bool,
    /// Whether an operator has dropped it: the table names nobody there until a generation that
    /// works has a listener at it.
    pub dropped: bool,
    /// Whether listeners that are nobody's have been seen in its reuseport group.
    pub strangers: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub(crate) rules: Rules,
    pub(crate) places: BTreeMap<EndpointId, Place>,
    pub(crate) listeners: BTreeMap<Slot, Listener>,
    pub(crate) generations: Vec<Generation>,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    pub(crate) joins: BTreeMap<ProcessId, Joining>,
    pub(crate) working: Option<GenerationId>,
    pub(crate) previous: Option<GenerationId>,
    pub(crate) epoch: Epoch,
    pub(crate) last_id: u32,
    pub(crate) published: Option<Table>,
    pub(crate) change: Option<Change>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) publish_retry: Retry,
    /// Answers that are given when nothing is being published.
    pub(crate) answers: Vec<(Asker, Answer)>,
    pub(crate) drains: Vec<Drain>,
    pub(crate) closing: Option<Retry>,
    /// How many descriptors registrations have brought.
    pub(crate) brought: u64,
    /// Whether a listener has come that may relieve a tombstone.
    pub(crate) relieved: bool,
    pub(crate) absent: Option<Retry>,
    pub(crate) looking: Option<Look>,
    /// When the listeners that nobody accepts from are looked at.
    pub(crate) stuck: Option<Retry>,
    /// When the programs are put on the groups again, which the kernel has refused.
    pub(crate) attach: Option<Retry>,
    pub(crate) woken: Option<Moment>,
    pub(crate) over: bool,
    effects: Vec<Effect>,
}

impl Service {
    /// A service with nothing registered.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            places: BTreeMap::new(),
            listeners: BTreeMap::new(),
            generations: Vec::new(),
            processes: BTreeMap::new(),
            joins: BTreeMap::new(),
            working: None,
            previous: None,
            epoch: Epoch(0),
            last_id: 0,
            published: None,
            change: None,
            waiting: None,
            publish_retry: Retry::now(Moment(0)),
            answers: Vec::new(),
            drains: Vec::new(),
            closing: None,
            brought: 0,
            relieved: false,
            absent: None,
            looking: None,
            stuck: None,
            attach: None,
            woken: None,
            over: false,
            effects: Vec::new(),
        }
    }

    /// Takes notice of a fact; returns what is to be done about it, in this order.
    pub fn on(&mut self, input: Input, now: Moment) -> Vec<Effect> {
        // That alarm has come; if anything is due at this moment still, another one is set.
        self.woken.take_if(|at| *at <= now);
        match input {
            Input::Join(join) => self.join(join, now),
            Input::Ready { by } => self.ready(by),
            Input::Left { process, how } => self.leave(process, how, now),
            Input::Outlived { process, open } => self.outlived(process, &open, now),
            Input::Emptied { process, listeners } => self.emptied(process, &listeners, now),
            Input::Serves { process, clients } => self.serves(process, clients),
            Input::Flip(request) => self.flip_for(request, now),
            Input::Retire {
                by,
                generation,
                force,
            } => self.retire(by, &generation, force, now),
            Input::Release { by } => self.release(by),
            Input::NotFilled { slot, why } => self.not_filled(slot, &why),
            Input::Attached { join, result } => self.attached(join, result, now),
            Input::Published(result) => self.published(result, now),
            Input::Readings(readings) => self.read(&readings, now),
            Input::Fetched { slot } => self.fetched(slot, now),
            Input::Strangers { endpoint, present } => {
                self.strangers(endpoint, present, now);
            }
            Input::Abandoned { slots, brought } => self.abandoned(&slots, brought, now),
            Input::ProgramGone => self.program_gone(now),
            Input::Waiting(all) => self.waiting(&all, now),
            Input::AcceptsAgain { slot, probes } => self.accepts_again(slot, probes),
            Input::NotProbed { slot } => self.not_probed(slot, now),
            Input::Time => {}
        }
        self.settle(now);
        mem::take(&mut self.effects)
    }

    /// Does what follows from what has happened.
    pub(crate) fn settle(&mut self, now: Moment) {
        if self.over {
            return;
        }
        self.sweep();
        self.expect_no_longer(now);
        self.keep_published(now);
        self.watch_deadlines(now);
        self.hold(now);
        self.end_empty_drains(now);
        self.end_leaving();
        if self.attach.take_if(|retry| retry.is_due(now)).is_some() {
            self.put_program_back(now);
        }
        self.look(now);
        self.forget_places();
        if self.change.is_none() {
            for (to, answer) in mem::take(&mut self.answers) {
                self.answer(to, answer);
            }
        }
        if self.listeners.is_empty() && self.joins.is_empty() && self.change.is_none() {
            self.over = true;
            self.end_drains();
            self.put(Effect::End);
        } else if let Some(at) = self.due(now)
            && self.woken.is_none_or(|woken| woken != at)
        {
            self.woken = Some(at);
            self.put(Effect::Wake { at });
        }
    }

    pub(crate) fn put(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn answer(&mut self, to: Asker, answer: Answer) {
        self.put(Effect::Answer { to, answer });
    }

    pub(crate) fn refuse(&mut self, to: Asker, error: PlanError) {
        self.answer(to, Answer::Refused(error));
    }

    pub(crate) fn record(&mut self, generation: GenerationId, what: Happened) {
        let generation = Some(generation);
        self.put(Effect::Record { generation, what });
    }

    /// Tells the processes of a generation that can be told anything.
    pub(crate) fn tell(&mut self, generation: GenerationId, event: Event) {
        let talk = self.processes.iter().filter(|(_, process)| {
            process.generation == generation && process.link == Link::Connected
        });
        let all: Vec<ProcessId> = talk.map(|(id, _)| *id).collect();
        for to in all {
            self.put(Effect::Tell { to, event });
        }
    }
}
