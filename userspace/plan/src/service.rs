//! One service: all that is known of it, and the one entry for what happens to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use synflip_abi::MAX_SLOTS;
use synflip_types::{Endpoint, EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{
    Answer, Asker, Effect, Event, Generation, Happened, Input, Link, Listener, Moment, Note,
    NoteState, Pace, PlanError, Process, ProcessId, Role, Table,
    closing::Look,
    drain::Drain,
    flip::{Change, Waiting},
    join::Joining,
    time::Retry,
};

/// What an operator has chosen, and what the kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// How long the listeners of an endpoint that nobody accepts at are held open for a successor,
    /// in milliseconds.
    pub hold: u64,
    /// Whether the kernel moves what is queued on a listener when its last descriptor is closed,
    /// and wakes whom it comes to.
    pub migrates: bool,
    /// Whether the first listener of a hash bucket stays open. Only a test that shows why turns
    /// this off.
    pub tombstones: bool,
    /// Slots of its socket array: fewer than is usual if an earlier version has made it.
    pub slots: u32,
    /// Most generations at one time, those included that are still closing.
    pub generations: usize,
    /// Between two looks at a drain.
    pub drain: Pace,
    /// Between two looks at listeners that cannot be closed yet.
    pub closing: Pace,
    /// Between two tries to publish a table that the kernel has refused.
    pub publish: Pace,
    /// Between two looks at listeners whose processes have not come back.
    pub absent: Pace,
    /// How long processes that live are expected to come back to a new agent, in milliseconds: the
    /// helper tries every 2 s at least.
    pub returns: u64,
}

impl Default for Rules {
    fn default() -> Self {
        let pace = |first, longest| Pace { first, longest };
        Self {
            hold: 30_000,
            migrates: false,
            tombstones: true,
            slots: MAX_SLOTS,
            generations: 64,
            // The first finds what ends by itself within a round trip; the longest is what a drain
            // that waits for a retransmission costs.
            drain: pace(2, 100),
            closing: pace(10, 250),
            publish: pace(100, 5_000),
            absent: pace(1_000, 5_000),
            returns: 10_000,
        }
    }
}

/// An address that listeners of a service are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address.
    pub address: Endpoint,
    /// Since when no process holds a listener there.
    pub unserved_since: Option<Moment>,
    /// Whether the hold is over, and its listeners are closed.
    pub given_up: bool,
    /// Whether listeners that are nobody's have been seen in its reuseport group.
    pub strangers: bool,
}

/// A moment that does not come.
const NEVER: Moment = Moment(u64::MAX);

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
    /// Whether a listener has come that may relieve a tombstone.
    pub(crate) relieved: bool,
    pub(crate) absent: Option<Retry>,
    pub(crate) looking: Option<Look>,
    /// When the programs are put on the groups again, which the kernel has refused.
    pub(crate) attach: Option<Retry>,
    woken: Option<Moment>,
    over: bool,
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
            relieved: false,
            absent: None,
            looking: None,
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
            Input::Emptied { process, listeners } => self.emptied(process, &listeners, now),
            Input::Flip(request) => self.flip_for(request, now),
            Input::Retire {
                by,
                generation,
                force,
            } => self.retire(by, &generation, force, now),
            Input::NotFilled { slot, why } => self.not_filled(slot, &why),
            Input::Attached { join, result } => self.attached(join, result, now),
            Input::Published(result) => self.published(result, now),
            Input::Readings(readings) => self.read(&readings, now),
            Input::Fetched { slot } => self.fetched(slot, now),
            Input::Strangers { endpoint, present } => {
                if let Some(place) = self.places.get_mut(&endpoint) {
                    place.strangers = present;
                    self.put_program_back(now);
                }
            }
            Input::Stuck { slot, stuck } => {
                if let Some(listener) = self.listeners.get_mut(&slot) {
                    listener.stuck = stuck;
                }
            }
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

    /// The next moment at which something is due without an input.
    fn due(&self, now: Moment) -> Option<Moment> {
        // A hold that ends during a publication is looked at when that has ended.
        let holds = self
            .places
            .values()
            .filter(|place| !place.given_up && self.change.is_none());
        let holds = holds.filter_map(|place| Some(place.unserved_since? + self.rules.hold));
        // A drain whose listeners a table names is looked at when no table does any more.
        let drains = self.drains.iter();
        let drains = drains.filter(|drain| !self.is_mentioned(drain.generation));
        let drains = drains.map(|drain| drain.retry.due);
        let looks = drains
            .chain(
                self.closing
                    .filter(|_| self.change.is_none())
                    .map(|retry| retry.due),
            )
            .chain(self.absent.map(|retry| retry.due))
            // There is one look at a time: its readings come as an input.
            .filter(|_| self.looking.is_none());
        let deadlines = self.drains.iter().filter_map(Drain::deadline);
        let publish = self.wants_publication().then_some(self.publish_retry.due);
        let expected = self.processes.values().filter_map(|p| p.expected_until);
        let attach = self.attach.map(|retry| retry.due);
        let all = looks
            .chain(holds)
            .chain(deadlines)
            .chain(publish)
            .chain(expected)
            .chain(attach);
        all.min().map(|at| at.max(now))
    }

    /// The same service, told the time by a clock that shows `by` milliseconds less.
    ///
    /// Two services that differ in nothing but how long the agent has run are equal then.
    pub fn set_back(&mut self, by: u64, now: Moment) {
        let retries = self.drains.iter_mut().map(|drain| &mut drain.retry);
        let retries = retries.chain(&mut self.closing).chain(&mut self.absent);
        let retries = retries.chain(&mut self.attach);
        for retry in retries.chain([&mut self.publish_retry]) {
            retry.set_back(by, now);
        }
        for drain in &mut self.drains {
            drain.set_back(by);
        }
        for place in self.places.values_mut() {
            let longest = Moment((now - Moment(0)).saturating_sub(self.rules.hold));
            let since = &mut place.unserved_since;
            *since = since.map(|since| since.max(longest).set_back(by));
        }
        for process in self.processes.values_mut() {
            let until = &mut process.expected_until;
            *until = until.map(|until| {
                if until == NEVER {
                    NEVER
                } else {
                    until.set_back(by)
                }
            });
        }
        self.woken = self.woken.map(|at| at.max(now).set_back(by));
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.over
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

    /// Notes a listener as it is now.
    pub(crate) fn note(&mut self, slot: Slot) {
        let Some(listener) = self.listeners.get(&slot) else {
            return;
        };
        let departure = self
            .generation(listener.generation)
            .and_then(|g| g.departure);
        let state = match listener.role {
            Role::Tombstone => NoteState::Tombstone,
            Role::Joining | Role::Member => departure.unwrap_or(NoteState::Registered),
        };
        if let Some(note) = self.note_as(slot, state) {
            self.put(Effect::Note { slot, note });
        }
    }

    pub(crate) fn note_as(&self, slot: Slot, state: NoteState) -> Option<Note> {
        let listener = self.listeners.get(&slot)?;
        let process = listener.holders.iter().next();
        Some(Note {
            cookie: listener.cookie,
            endpoint: listener.endpoint,
            address: self.places.get(&listener.endpoint)?.address,
            generation: listener.generation,
            name: self.generation(listener.generation)?.name.clone(),
            state,
            ready: listener.holders.values().any(|ready| *ready),
            adopted: process.is_some_and(|(id, _)| {
                let process = self.processes.get(id);
                process.is_some_and(|process| process.link == Link::Adopted)
            }),
            process: process.map(|(id, _)| *id),
        })
    }

    /// The slots of a generation's listeners, tombstones left out.
    pub(crate) fn slots_of(&self, generation: GenerationId) -> Vec<Slot> {
        let its = |(_, listener): &(&Slot, &Listener)| {
            listener.generation == generation && listener.role != Role::Tombstone
        };
        self.listeners
            .iter()
            .filter(its)
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Those of a generation's listeners at an endpoint that new connections may go to.
    ///
    /// One that nobody accepts from, although its process lives, is left out while a sibling's
    /// queue moves.
    pub(crate) fn accepting(&self, generation: GenerationId, endpoint: EndpointId) -> Vec<Slot> {
        let its: Vec<_> = self
            .listeners
            .iter()
            .filter(|(_, listener)| {
                listener.generation == generation
                    && listener.endpoint == endpoint
                    && listener.accepts()
            })
            .collect();
        let all_stuck = its.iter().all(|(_, listener)| listener.stuck);
        let moving = its
            .iter()
            .filter(|(_, listener)| all_stuck || !listener.stuck);
        moving.map(|(slot, _)| **slot).collect()
    }

    /// The slots of the table that the kernel follows, and of the one it may follow in a moment.
    ///
    /// A new listener must not come into one of them, even if it is free because its listener died
    /// while there was no agent: it would be given connections before its time.
    pub(crate) fn mentioned(&self) -> BTreeSet<Slot> {
        let changing = self.change.as_ref().map(|change| &change.table);
        let tables = self.published.iter().chain(changing);
        tables.flat_map(Table::all_slots).map(Slot).collect()
    }

    pub(crate) fn named(&self, name: &Name) -> Result<&Generation, PlanError> {
        let found = self.generations.iter().find(|g| g.name == *name);
        found.ok_or_else(|| {
            let known: Vec<_> = self.generations.iter().map(|g| g.name.as_str()).collect();
            PlanError::NoSuchGeneration {
                name: name.to_string(),
                known: if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                },
            }
        })
    }

    pub(crate) fn generation_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|g| g.id == id)
    }

    /// Takes out a generation that has no listeners left, unless the kernel follows it or its
    /// drain is not over.
    pub(crate) fn forget_if_empty(&mut self, id: GenerationId) {
        let drains = self.drains.iter().any(|drain| drain.generation == id);
        let joins = self.joins.values().any(|join| join.generation == id);
        let in_use = self.working == Some(id) || self.flipping_to() == Some(id);
        if in_use || drains || joins || !self.slots_of(id).is_empty() {
            return;
        }
        self.generations.retain(|generation| generation.id != id);
        if self.previous == Some(id) {
            self.previous = None;
        }
    }

    /// Drops the numbers of endpoints that nothing refers to any more.
    fn forget_places(&mut self) {
        let changing = self.change.as_ref().map(|change| &change.table);
        let tables: Vec<_> = self.published.iter().chain(changing).collect();
        let listeners = &self.listeners;
        self.places.retain(|id, _| {
            listeners.values().any(|listener| listener.endpoint == *id)
                || tables.iter().any(|table| !table.slots(id.0).is_empty())
        });
    }

    /// A generation.
    pub fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.iter().find(|g| g.id == id)
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The listeners, by slot.
    pub fn listeners(&self) -> &BTreeMap<Slot, Listener> {
        &self.listeners
    }

    /// The processes that hold listeners.
    pub fn processes(&self) -> &BTreeMap<ProcessId, Process> {
        &self.processes
    }

    /// The endpoints.
    pub fn places(&self) -> &BTreeMap<EndpointId, Place> {
        &self.places
    }

    /// The generation that new connections go to.
    pub fn working(&self) -> Option<GenerationId> {
        self.working
    }

    /// The generation that a rollback goes to.
    pub fn previous(&self) -> Option<GenerationId> {
        self.previous
    }

    /// The count of committed flips.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The table that the kernel follows, as far as is known.
    pub fn table(&self) -> Option<&Table> {
        self.published.as_ref()
    }

    /// Whether a table is being published.
    pub fn is_committing(&self) -> bool {
        self.change.is_some()
    }

    /// Whether something is under way of which a report will come.
    pub fn is_busy(&self) -> bool {
        self.change.is_some() || self.looking.is_some() || !self.joins.is_empty()
    }

    /// What the operator has chosen.
    pub fn rules(&self) -> Rules {
        self.rules
    }
}
