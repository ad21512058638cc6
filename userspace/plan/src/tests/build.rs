//! Brings a service into a state in a few lines, and says in a few words what it then wants done.
//!
//! [`Scene::on`] feeds one input and returns what the machine wants done; nothing of it happens.
//! [`Scene::run`] does it too, as an agent would whose kernel refuses nothing, until nothing more
//! is to be reported.
//!
//! In all tests [`WEB`] is endpoint 0 and [`ALT`] endpoint 1, and generation 1 has the name `v1`.

use std::collections::{BTreeMap, VecDeque};

use synflip_types::{GenerationId, Slot};

use super::inputs::{Flips, attached, closed, flip, join, pending, ready};
use crate::{Effect, Inherited, Input, Moment, Phase, ProcessId, Reading, Rules, Service, Table};

pub(super) const A: ProcessId = ProcessId(1);
pub(super) const B: ProcessId = ProcessId(2);
pub(super) const C: ProcessId = ProcessId(3);
pub(super) const D: ProcessId = ProcessId(4);
/// Whoever flips, retires and has processes adopted.
pub(super) const OPERATOR: ProcessId = ProcessId(90);

/// 127.0.0.1:80 and 127.0.0.1:8080.
pub(super) const WEB: u16 = 80;
pub(super) const ALT: u16 = 8080;

/// The moment at which a scene begins.
pub(super) const START: u64 = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) service: Service,
    pub(super) now: u64,
    /// What a look at a listener shows; nothing pending if it is not in here.
    readings: BTreeMap<u32, Reading>,
    /// The order of the hash bucket; that of the slots if it is empty.
    bucket: Vec<u32>,
    /// What to do when all is at rest.
    pub(super) wake: Option<u64>,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with(Rules::default())
    }

    pub(super) fn with(rules: Rules) -> Self {
        Self::of(Service::new(rules))
    }

    fn of(service: Service) -> Self {
        Self {
            service,
            now: START,
            readings: BTreeMap::new(),
            bucket: Vec::new(),
            wake: None,
        }
    }

    /// What an agent finds that comes after another, and what it does first.
    ///
    /// Where a table is published, a grace period is waited for, as
    /// `an_earlier_agents_publication_has_its_grace_period` shows; here it is left out.
    pub(super) fn recovered(published: Option<Table>, left: &[Inherited]) -> (Self, Vec<Effect>) {
        let (service, mut effects) =
            Service::recovered(Rules::default(), published, left, Moment(START));
        let barrier = effects.iter().position(|effect| *effect == Effect::Barrier);
        barrier.map(|at| effects.remove(at));
        let mut scene = Self::of(service);
        scene.take_wakes(&effects);
        (scene, effects)
    }

    /// v1 works: A accepts at WEB, in slot 0, cookie 10.
    pub(super) fn v1_works() -> Self {
        let mut scene = Self::new();
        scene.joins_ready(A, "v1", &[(WEB, 10)]);
        scene
    }

    /// v1 works (A, slot 0, cookie 10), v2 is ready (B, slot 1, cookie 20).
    pub(super) fn v2_is_ready() -> Self {
        let mut scene = Self::v1_works();
        scene.joins_ready(B, "v2", &[(WEB, 20)]);
        scene
    }

    /// v2 works since epoch 2 (B, slot 1, cookie 20); v1 (A, slot 0, cookie 10) has something
    /// pending, and so it drains.
    pub(super) fn v1_drains() -> Self {
        let mut scene = Self::v2_is_ready();
        scene.pending(0, 3, 1);
        scene.run(flip("v2"));
        assert_eq!(scene.phase(1), Some(Phase::Draining));
        scene
    }

    /// v2 works since epoch 2 (B, slot 1, cookie 20); v1 is kept (A, slot 0, cookie 10).
    pub(super) fn v1_is_kept() -> Self {
        let mut scene = Self::v2_is_ready();
        scene.run(Flips::to("v2").keep().input());
        assert_eq!(scene.phase(1), Some(Phase::Standby));
        scene
    }

    /// Feeds one input; returns what is to be done.
    pub(super) fn on(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.service.on(input, Moment(self.now));
        self.take_wakes(&effects);
        effects
    }

    /// Feeds one input, and all reports that follow from it; returns all that is to be done.
    pub(super) fn run(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.on(input);
        self.carry_out(effects)
    }

    /// Does what is to be done, and what follows from it.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        self.take_wakes(&effects);
        let mut all = Vec::new();
        let mut todo: VecDeque<Effect> = effects.into();
        while let Some(effect) = todo.pop_front() {
            if let Some(report) = self.report(&effect) {
                todo.extend(self.on(report));
            }
            all.push(effect);
            assert!(all.len() < 100_000, "it does not come to rest");
        }
        all
    }

    fn report(&self, effect: &Effect) -> Option<Input> {
        match effect {
            Effect::Attach { join } => Some(attached(*join)),
            Effect::Publish { .. } => Some(Input::Published(Ok(()))),
            Effect::Read { slots } => Some(self.readings_of(slots)),
            Effect::Fetch { slot, .. } => Some(Input::Fetched { slot: *slot }),
            _ => None,
        }
    }

    fn readings_of(&self, slots: &[Slot]) -> Input {
        let place = |slot: &Slot| self.bucket.iter().position(|other| *other == slot.0);
        let mut slots = slots.to_vec();
        slots.sort_by_key(|slot| (place(slot), *slot));
        let reading = |slot: Slot| {
            let known = self.readings.get(&slot.0).copied();
            (slot, known.unwrap_or_else(|| pending(0, 0)))
        };
        Input::Readings(slots.into_iter().map(reading).collect())
    }

    fn take_wakes(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Wake { at } = effect {
                self.wake = Some(at.0);
            }
        }
    }

    /// A process registers listeners with these cookies, and is not ready yet.
    pub(super) fn joins(&mut self, process: ProcessId, name: &str, listeners: &[(u16, u64)]) {
        self.run(join(process, name, listeners));
    }

    /// A process registers, and accepts connections; what follows from that is done.
    pub(super) fn joins_ready(&mut self, process: ProcessId, name: &str, listeners: &[(u16, u64)]) {
        self.joins(process, name, listeners);
        self.run(ready(process));
    }

    /// From now on a look at the listener shows so much.
    pub(super) fn pending(&mut self, slot: u32, queued: u32, half_open: u32) {
        self.shows(slot, pending(queued, half_open));
    }

    /// From now on a look at the listener shows this.
    pub(super) fn shows(&mut self, slot: u32, reading: Reading) {
        self.readings.insert(slot, reading);
    }

    /// From now on looks show this order of the hash bucket.
    pub(super) fn bucket(&mut self, slots: &[u32]) {
        self.bucket = slots.to_vec();
    }

    /// Time passes, nothing else.
    pub(super) fn after(&mut self, ms: u64) -> Vec<Effect> {
        self.now += ms;
        self.on(Input::Time)
    }

    /// A process closes its listeners, and the hold passes.
    pub(super) fn ends(&mut self, process: ProcessId) -> Vec<Effect> {
        let mut effects = self.run(closed(process));
        let over = self.now + self.service.rules().hold;
        while self.wake.is_some_and(|at| at <= over) {
            effects.extend(self.woken());
        }
        effects
    }

    /// Time passes until the machine wants to be called, and all follows from it.
    pub(super) fn woken(&mut self) -> Vec<Effect> {
        let at = self.wake.take().expect("a wake was asked for");
        assert!(at >= self.now, "{at} is over, it is {}", self.now);
        self.now = at;
        self.run(Input::Time)
    }

    /// Time passes until the machine wants to be called, nothing else.
    pub(super) fn woken_on(&mut self) -> Vec<Effect> {
        self.now = self.wake.take().expect("a wake was asked for");
        self.on(Input::Time)
    }

    pub(super) fn phase(&self, generation: u32) -> Option<Phase> {
        let generation = self.service.generation(GenerationId(generation))?;
        Some(generation.phase)
    }

    pub(super) fn working(&self) -> Option<u32> {
        self.service.working().map(|id| id.0)
    }
}
