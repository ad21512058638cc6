//! The reference model: what a service has, in plain lists.

use std::{collections::BTreeSet, net::SocketAddr};

use synflip_plan::{
    Change, Flip, Generation, GenerationId, Member, Phase, ProcessId, Slot, Table, Target,
};

use crate::Listener;

const ENDPOINTS: usize = 16;
const SLOTS: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) generations: Vec<Generation>,
    pub(crate) tombstones: Vec<Member>,
    pub(crate) published: Option<Table>,
    pub(crate) committing: Option<Change>,
    pub(crate) working: Option<GenerationId>,
    pub(crate) previous: Option<GenerationId>,
    pub(crate) epoch: u64,
    endpoints: Vec<SocketAddr>,
    founded: u32,
    /// Every listener that ever was: its cookie is its index, and 1.
    listeners: Vec<SocketAddr>,
}

impl Model {
    /// Addresses and cookies of distinct listeners.
    pub(crate) fn listeners(&mut self, wanted: &[Listener]) -> Vec<(SocketAddr, u64)> {
        let mut found: Vec<(SocketAddr, u64)> = Vec::new();
        for listener in wanted {
            let index = match listener {
                Listener::Known(at) if !self.listeners.is_empty() => at % self.listeners.len(),
                Listener::Known(_) => continue,
                Listener::New(port) => {
                    self.listeners.push(([127, 0, 0, 1], *port).into());
                    self.listeners.len() - 1
                }
            };
            let key = (self.listeners[index], index as u64 + 1);
            if !found.contains(&key) {
                found.push(key);
            }
        }
        found
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.generations
            .iter()
            .flat_map(|g| &g.members)
            .map(|member| member.slot)
            .collect()
    }

    /// Whether a process may join; if so, with the slots that it got.
    pub(crate) fn join(
        &mut self,
        process: ProcessId,
        name: Option<&str>,
        listeners: &[(SocketAddr, u64)],
        slots: &[Slot],
    ) -> bool {
        let holder = |cookie: &u64| {
            let has = |g: &Generation| g.members.iter().any(|member| member.cookie == *cookie);
            self.generations.iter().position(has)
        };
        let known: Vec<usize> = listeners
            .iter()
            .filter_map(|(_, cookie)| holder(cookie))
            .collect();
        let members = self.generations.iter().flat_map(|g| &g.members);
        let busy = members
            .filter(|m| m.served)
            .map(|m| m.cookie)
            .collect::<Vec<_>>();
        let named = self
            .generations
            .iter()
            .position(|g| Some(g.name.as_str()) == name);
        let returning = known.last().copied();
        let open = [Phase::Registered, Phase::Ready, Phase::Working];
        let closed = named.is_some_and(|at| !open.contains(&self.generations[at].phase));
        let addresses = self
            .endpoints
            .iter()
            .chain(listeners.iter().map(|(address, _)| address));
        let addresses: BTreeSet<_> = addresses.collect();
        let held = self.slots().len() + self.tombstones.len();
        if name == Some("latest")
            || listeners.iter().any(|(_, cookie)| busy.contains(cookie))
            || (closed && returning != named)
            || addresses.len() > ENDPOINTS
            || held + listeners.len() > SLOTS
        {
            return false;
        }
        for (address, _) in listeners {
            if !self.endpoints.contains(address) {
                self.endpoints.push(*address);
            }
        }
        let at = returning.or(named).unwrap_or_else(|| self.found(name));
        assert_eq!(slots.len(), listeners.len());
        for ((address, cookie), slot) in listeners.iter().zip(slots) {
            let mut members = self.generations.iter_mut().flat_map(|g| &mut g.members);
            if let Some(member) = members.find(|member| member.cookie == *cookie) {
                assert_eq!(member.slot, *slot, "a listener has moved");
                (member.process, member.served) = (process, true);
                continue;
            }
            let mut endpoints = (0..).zip(&self.endpoints);
            let endpoint = endpoints.find(|(_, known)| *known == address);
            self.generations[at].members.push(Member {
                slot: *slot,
                endpoint: endpoint.expect("added above").0,
                cookie: *cookie,
                process,
                ready: false,
                served: true,
            });
        }
        true
    }

    fn found(&mut self, name: Option<&str>) -> usize {
        self.founded += 1;
        let taken = |name: &String| self.generations.iter().any(|g| g.name == *name);
        let own = (self.founded..)
            .map(|n| format!("gen{n}"))
            .find(|name| !taken(name));
        self.generations.push(Generation {
            id: GenerationId(self.founded),
            name: name.map_or_else(|| own.expect("numbers do not end"), str::to_owned),
            phase: Phase::Registered,
            members: Vec::new(),
        });
        self.generations.len() - 1
    }

    pub(crate) fn ready(&mut self, process: ProcessId) {
        for generation in &mut self.generations {
            for member in generation
                .members
                .iter_mut()
                .filter(|m| m.process == process)
            {
                member.ready = true;
                if generation.phase == Phase::Registered {
                    generation.phase = Phase::Ready;
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, who: impl Fn(&Member) -> bool) {
        let members = self.generations.iter_mut().flat_map(|g| &mut g.members);
        members
            .filter(|member| who(member))
            .for_each(|member| member.served = false);
    }

    /// The generation that is flipped to, if that is allowed.
    pub(crate) fn flip(&mut self, target: &Target, stale: bool) -> bool {
        let takes = |g: &&Generation| {
            let phases = [Phase::Ready, Phase::Draining, Phase::Standby];
            phases.contains(&g.phase) && g.members.iter().any(|m| m.ready && m.served)
        };
        let to = match target {
            Target::Named(name) => self.generations.iter().find(|g| g.name == *name),
            Target::Previous => self
                .generations
                .iter()
                .find(|g| Some(g.id) == self.previous),
            Target::Latest => {
                let mut newest = self.generations.iter().rev();
                newest.find(|g| takes(g) || g.phase == Phase::Working)
            }
        };
        let Some(to) = to.filter(takes) else {
            return false;
        };
        let table = self.table(to, self.epoch + 1);
        if self.committing.is_some() || stale || self.leaves_out(&table) {
            return false;
        }
        let flip = Flip {
            from: self.working,
            to: to.id,
            epoch: self.epoch + 1,
        };
        self.committing = Some(Change {
            table,
            flip: Some(flip),
        });
        true
    }

    /// Whether the working generation's listeners differ from the published ones.
    pub(crate) fn refresh(&mut self) -> bool {
        let Some(working) = self.generations.iter().find(|g| Some(g.id) == self.working) else {
            return false;
        };
        let table = self.table(working, self.epoch);
        let same = self.published.as_ref() == Some(&table);
        if self.committing.is_some() || same || self.leaves_out(&table) {
            return false;
        }
        self.committing = Some(Change { table, flip: None });
        true
    }

    fn table(&self, generation: &Generation, epoch: u64) -> Table {
        let lists: Vec<Vec<Slot>> = (0..self.endpoints.len())
            .map(|endpoint| {
                let here = generation
                    .members
                    .iter()
                    .filter(|m| m.endpoint as usize == endpoint);
                here.filter(|m| m.ready && m.served)
                    .map(|m| m.slot)
                    .collect()
            })
            .collect();
        Table::new(lists.iter().map(Vec::as_slice)).of(generation.id, epoch)
    }

    fn leaves_out(&self, table: &Table) -> bool {
        let published = self.published.iter();
        let served = published.flat_map(|t| (0..16).filter(|e| !t.slots(*e).is_empty()));
        served
            .into_iter()
            .any(|endpoint| table.slots(endpoint).is_empty())
    }

    pub(crate) fn commit(&mut self) {
        let Some(change) = self.committing.take() else {
            return;
        };
        self.published = Some(change.table);
        let Some(flip) = change.flip else { return };
        for generation in &mut self.generations {
            if Some(generation.id) == flip.from {
                generation.phase = Phase::Draining;
            }
            if generation.id == flip.to {
                generation.phase = Phase::Working;
            }
        }
        (self.working, self.previous, self.epoch) = (Some(flip.to), flip.from, flip.epoch);
    }

    fn flips_to(&self, id: GenerationId) -> bool {
        let flip = self
            .committing
            .as_ref()
            .and_then(|change| change.flip.as_ref());
        flip.is_some_and(|flip| flip.to == id)
    }

    pub(crate) fn drained(&mut self, id: GenerationId, keep: bool) {
        let over = if keep { Phase::Standby } else { Phase::Drained };
        let flips_to = self.flips_to(id);
        if let Some(generation) = self.generations.iter_mut().find(|g| g.id == id)
            && generation.phase == Phase::Draining
            && !flips_to
        {
            generation.phase = over;
            if !keep {
                self.previous = self.previous.filter(|previous| *previous != id);
            }
        }
        self.forget_empty();
    }

    pub(crate) fn retire(&mut self, name: &str, force: bool) -> bool {
        let Some(at) = self.generations.iter().position(|g| g.name == name) else {
            return false;
        };
        let (id, phase) = (self.generations[at].id, self.generations[at].phase);
        if phase == Phase::Working || (phase == Phase::Draining && !force) || self.flips_to(id) {
            return false;
        }
        self.generations[at].phase = Phase::Drained;
        self.previous = self.previous.filter(|previous| *previous != id);
        self.forget_empty();
        true
    }

    pub(crate) fn bury(&mut self, slot: Option<Slot>) {
        for generation in &mut self.generations {
            let leaving = generation.members.extract_if(.., |m| Some(m.slot) == slot);
            self.tombstones.extend(leaving);
        }
        self.forget_empty();
    }

    /// Only what works or drains is known without listeners.
    fn forget_empty(&mut self) {
        let in_use = |g: &Generation| matches!(g.phase, Phase::Working | Phase::Draining);
        let gone = self
            .generations
            .extract_if(.., |g| g.members.is_empty() && !in_use(g));
        let gone: Vec<GenerationId> = gone.map(|g| g.id).collect();
        self.previous = self.previous.filter(|previous| !gone.contains(previous));
    }
}
