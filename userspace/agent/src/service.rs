//! One service: what a flip walks through, from the request to the drained generation.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use synflip_abi::{Member, MemberState};
use synflip_bpf::{BpfError, Published, Publisher, Steering};
use synflip_plan::{
    Change, Flip, GenerationId, Joined, Pending, PlanError, ProcessId, Slot, Target,
};
use synflip_wire::{Committed, DrainEnd, ErrorCode, Event, ListenerSpec, Name, Refusal, Reply};

use crate::{
    custody::Custody,
    drain::{Drain, Waiter},
    error::{chain, kernel, planned},
    limits,
    queues::ListenTables,
    registry::{Context, Message},
    timeline::{Timeline, unix_ms},
};

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) owner_uid: u32,
    pub(crate) plan: synflip_plan::Service,
    pub(crate) steering: Steering,
    pub(crate) custody: BTreeMap<Slot, Custody>,
    pub(crate) tables: ListenTables,
    pub(crate) timeline: Timeline,
    pub(crate) drains: Vec<Drain>,
    /// With the blocking task while a table is being published.
    publisher: Option<Publisher>,
    /// Who asked for the flip that is being committed.
    asked: Option<Asked>,
    /// Since when nobody accepts for it any more.
    pub(crate) unserved_since: Option<Instant>,
    /// Whether the last process to leave had closed its listeners on purpose.
    pub(crate) left_on_purpose: bool,
    /// When listeners that wait to be closed are looked at again.
    pub(crate) close_again: Option<Instant>,
    /// Listeners to close whatever is pending on them.
    pub(crate) forced: BTreeSet<Slot>,
}

/// A flip that a peer has asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) peer: ProcessId,
    pub(crate) drain: Duration,
    pub(crate) keep: bool,
}

impl Service {
    pub(crate) fn new(
        name: Name,
        owner_uid: u32,
        steering: Steering,
        publisher: Publisher,
        tables: ListenTables,
    ) -> Self {
        Self {
            name,
            owner_uid,
            plan: synflip_plan::Service::new(),
            steering,
            custody: BTreeMap::new(),
            tables,
            timeline: Timeline::default(),
            drains: Vec::new(),
            publisher: Some(publisher),
            asked: None,
            unserved_since: None,
            left_on_purpose: false,
            close_again: None,
            forced: BTreeSet::new(),
        }
    }

    /// A process joins a generation with listeners that have passed inspection.
    pub(crate) fn register(
        &mut self,
        process: ProcessId,
        generation: Option<&Name>,
        listeners: Vec<Custody>,
    ) -> Result<Name, Refusal> {
        for (at, listener) in listeners.iter().enumerate() {
            let siblings = self.custody.values().chain(&listeners[..at]);
            for sibling in siblings {
                if sibling.cookie == listener.cookie {
                    let text = format!("{}: this listener is registered already", listener.address);
                    return Err(Refusal::new(ErrorCode::BadListener, text));
                }
                if let Some(refusal) = listener.differs_from(sibling) {
                    return Err(refusal);
                }
            }
        }
        if self.plan.generations().len() >= limits::GENERATIONS {
            let text = format!(
                "{}: {} generations are registered; retire some",
                self.name,
                limits::GENERATIONS
            );
            return Err(Refusal::new(ErrorCode::LimitReached, text));
        }
        let keys: Vec<(SocketAddr, u64)> = listeners
            .iter()
            .map(|listener| (listener.address, listener.cookie))
            .collect();
        let joined = self
            .plan
            .join(process, generation.map(Name::as_str), &keys)
            .map_err(|error| planned(self.name.as_str(), &error))?;
        if let Err(error) = self.place(&joined, &listeners) {
            for slot in &joined.slots {
                self.clear(*slot);
            }
            self.plan.unjoin(&joined);
            return Err(kernel(&error));
        }
        let count = listeners.len();
        self.custody
            .extend(joined.slots.iter().copied().zip(listeners));
        let name = self.generation_name(joined.generation);
        self.note(&name, format!("registered {count} listeners"));
        Ok(name)
    }

    /// Puts listeners into their slots and the program on their reuseport groups.
    fn place(&mut self, joined: &Joined, listeners: &[Custody]) -> Result<(), BpfError> {
        let mut attached = Vec::new();
        for (slot, listener) in joined.slots.iter().zip(listeners) {
            let addresses = self.plan.endpoints().iter();
            let place = addresses
                .zip(0..)
                .find(|(address, _)| **address == listener.address);
            let endpoint = place.map_or(u32::MAX, |(_, endpoint)| endpoint);
            let member = Member {
                cookie: listener.cookie,
                generation: joined.generation.0,
                endpoint,
                state: MemberState::Registered,
            };
            self.steering.put(*slot, member, listener.as_fd())?;
            // The group may be new, or a member of it may have changed its program.
            if !attached.contains(&endpoint) {
                self.steering.attach(endpoint, listener.as_fd())?;
                attached.push(endpoint);
            }
        }
        Ok(())
    }

    /// A process accepts connections.
    pub(crate) fn ready(&mut self, process: ProcessId, generation: &Name) {
        self.plan.ready(process);
        self.note(generation, "ready");
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
        self.left_on_purpose = on_purpose;
        let what = if on_purpose {
            "a process closed its listeners"
        } else {
            "a process is gone"
        };
        self.note(generation, what);
    }

    /// Begins a flip: stops 3 to 5 of the way that ARCHITECTURE.md describes.
    pub(crate) fn flip(
        &mut self,
        target: &Target,
        if_epoch: Option<u64>,
        asked: Option<Asked>,
        context: &Context,
    ) -> Result<(), Refusal> {
        let change = self
            .plan
            .begin_flip(target, if_epoch)
            .map_err(|error| planned(self.name.as_str(), &error))?;
        self.asked = asked;
        self.begin(change, context);
        Ok(())
    }

    /// Hands a table to a thread that may block for the grace period.
    pub(crate) fn begin(&mut self, change: Change, context: &Context) {
        let Some(mut publisher) = self.publisher.take() else {
            // The plan allows one change at a time, and each gives the publisher back.
            return self.plan.abort();
        };
        let custody = &self.custody;
        let cookie = |slot| {
            custody
                .get(&slot)
                .map_or(0, |listener: &Custody| listener.cookie)
        };
        let members: Vec<_> = change
            .table
            .all_slots()
            .map(|slot| (slot, cookie(slot)))
            .collect();
        let (service, messages) = (self.name.clone(), context.messages.clone());
        tokio::task::spawn_blocking(move || {
            let result = publisher.publish(change.table.words(), &members);
            let message = Message::Published {
                service,
                publisher,
                change,
                result,
            };
            // Without a receiver the agent is ending, and the table stands.
            drop(messages.blocking_send(message));
        });
    }

    /// The kernel has taken a table, or refused it.
    pub(crate) fn published(
        &mut self,
        publisher: Publisher,
        change: &Change,
        result: Result<Published, BpfError>,
        context: &mut Context,
    ) {
        self.publisher = Some(publisher);
        let asked = self.asked.take();
        match result {
            Ok(published) => {
                self.plan.commit();
                let listeners = change.table.all_slots().count();
                match &change.flip {
                    Some(flip) => self.flipped(flip, listeners, published, asked, context),
                    None => self.refreshed(listeners),
                }
            }
            Err(error) => {
                self.plan.abort();
                // Its server has shut it down: without it the next attempt can succeed.
                if let BpfError::ListenerGone { slot } = error {
                    self.plan.lose(slot);
                }
                tracing::warn!(service = %self.name, "not published: {}", chain(&error));
                if let Some(asked) = asked {
                    context
                        .peers
                        .send(asked.peer, Reply::Refused(kernel(&error)));
                }
            }
        }
    }

    fn refreshed(&mut self, listeners: usize) {
        if let Some(working) = self.plan.working() {
            let name = self.generation_name(working);
            self.note(&name, format!("works with {listeners} listeners now"));
        }
    }

    fn flipped(
        &mut self,
        flip: &Flip,
        listeners: usize,
        published: Published,
        asked: Option<Asked>,
        context: &mut Context,
    ) {
        let committed = Committed {
            service: self.name.clone(),
            from: flip.from.map(|id| self.generation_name(id)),
            to: self.generation_name(flip.to),
            epoch: flip.epoch,
            listeners,
            commit_ms: published.took.as_secs_f64() * 1e3,
            committed_at_ms: unix_ms(),
        };
        self.supersede(flip.to, context);
        self.each_listener(flip.to, |listener| listener.end_drain());
        self.note(&committed.to, format!("working since epoch {}", flip.epoch));
        self.tell(flip.to, Event::Working, context);
        if let Some(asked) = asked {
            context
                .peers
                .send(asked.peer, Reply::Committed(committed.clone()));
        }
        let waiter = asked
            .filter(|asked| !asked.drain.is_zero())
            .map(|asked| Waiter {
                peer: asked.peer,
                deadline: Instant::now() + asked.drain,
            });
        let Some(from) = flip.from else {
            return self.nothing_to_drain(committed, waiter, context);
        };
        self.each_listener(from, |listener| listener.begin_drain());
        self.tell(from, Event::Draining, context);
        let members = self.plan.generation(from).map(|old| old.members.clone());
        let custody = &self.custody;
        let old = members
            .unwrap_or_default()
            .into_iter()
            .filter_map(|member| {
                custody
                    .get(&member.slot)
                    .map(|listener| (member.slot, listener.address))
            });
        let keep = asked.is_some_and(|asked| asked.keep);
        let mut drain = Drain::new(from, committed, keep, waiter, old);
        self.sample(&mut drain);
        let pending = drain.at_commit();
        let name = self.generation_name(from);
        let (queued, half_open) = (pending.queued, pending.half_open);
        self.note(
            &name,
            format!("draining: {queued} queued, {half_open} half-open"),
        );
        self.drains.push(drain);
    }

    /// The first generation replaces nobody.
    fn nothing_to_drain(
        &self,
        committed: Committed,
        waiter: Option<Waiter>,
        context: &mut Context,
    ) {
        if let (Some(waiter), Some(to)) = (waiter, self.plan.working()) {
            let drain = Drain::new(to, committed, false, None, []);
            let certificate = drain.certificate(DrainEnd::Drained);
            context.peers.send(waiter.peer, Reply::Drained(certificate));
        }
    }

    /// A generation works again: whoever waits for its drain waits for something that is over.
    fn supersede(&mut self, id: GenerationId, context: &mut Context) {
        for drain in self.drains.extract_if(.., |drain| drain.generation == id) {
            if let Some(waiter) = drain.waiter {
                let certificate = drain.certificate(DrainEnd::Superseded);
                context.peers.send(waiter.peer, Reply::Drained(certificate));
            }
        }
    }

    /// Reads what is pending on the listeners of the drains that are due.
    pub(crate) fn watch_drains(&mut self, now: Instant, context: &mut Context) {
        let mut drains = std::mem::take(&mut self.drains);
        for drain in drains.iter_mut().filter(|drain| drain.next <= now) {
            self.sample(drain);
            if let Some(waiter) = drain.waiter {
                context
                    .peers
                    .hint(waiter.peer, Reply::Draining(drain.total()));
            }
        }
        for drain in drains.extract_if(.., |drain| drain.is_over()) {
            self.drained(&drain, context);
        }
        for drain in &mut drains {
            if let Some(waiter) = drain.waiter.take_if(|waiter| waiter.deadline <= now) {
                let certificate = drain.certificate(DrainEnd::DeadlinePassed);
                let name = self.generation_name(drain.generation);
                let left = drain.total();
                let (queued, half_open) = (left.queued, left.half_open);
                self.note(
                    &name,
                    format!("drain deadline passed: {queued} queued, {half_open} half-open left"),
                );
                context.peers.send(waiter.peer, Reply::Drained(certificate));
            }
        }
        // A drain may have been superseded only by a flip, which is not handled in here.
        self.drains = drains;
    }

    /// Takes a reading of each of a drain's listeners.
    fn sample(&mut self, drain: &mut Drain) {
        let members = self
            .plan
            .generation(drain.generation)
            .map(|g| g.members.clone());
        let members = members.unwrap_or_default();
        let slots: Vec<Slot> = members.iter().map(|member| member.slot).collect();
        for (slot, pending) in self.pending(&slots) {
            drain.read(slot, pending);
        }
        for slot in drain.slots() {
            // Migrated by closing it: nothing is pending where nothing is.
            if !slots.contains(&slot) {
                drain.read(
                    slot,
                    Pending {
                        refcnt: 1,
                        queued: 0,
                    },
                );
            }
        }
        drain.again(Instant::now());
    }

    /// What is pending on these listeners, in the order of their hash buckets; those whose state
    /// is not known are left out.
    pub(crate) fn pending(&mut self, slots: &[Slot]) -> Vec<(Slot, Pending)> {
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            let by_inode: BTreeMap<u64, Slot> = slots
                .iter()
                .filter_map(|slot| self.custody.get(slot).map(|listener| (slot, listener)))
                .filter(|(_, listener)| listener.address.is_ipv6() == ipv6)
                .map(|(slot, listener)| (listener.inode, *slot))
                .collect();
            let inodes: Vec<u64> = by_inode.keys().copied().collect();
            match self.tables.read(ipv6, &inodes) {
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

    fn drained(&mut self, drain: &Drain, context: &mut Context) {
        let (id, keep) = (drain.generation, drain.keep);
        let name = self.generation_name(id);
        self.plan.drained(id, keep);
        let (end, event) = if keep {
            (DrainEnd::Standby, Event::Standby)
        } else {
            (DrainEnd::Drained, Event::Drained)
        };
        let certificate = drain.certificate(end);
        let after = certificate.drained_after_ms.unwrap_or(0);
        let then = if keep { "; kept for a rollback" } else { "" };
        self.note(&name, format!("drained {after} ms after the commit{then}"));
        self.tell(id, event, context);
        if let Some(waiter) = drain.waiter {
            context.peers.send(waiter.peer, Reply::Drained(certificate));
        }
        self.plan.forget(id);
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
    fn tell(&self, id: GenerationId, event: Event, context: &mut Context) {
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

    fn each_listener(
        &mut self,
        id: GenerationId,
        mut action: impl FnMut(&mut Custody) -> std::io::Result<()>,
    ) {
        let Some(generation) = self.plan.generation(id) else {
            return;
        };
        for member in &generation.members {
            let Some(listener) = self.custody.get_mut(&member.slot) else {
                continue;
            };
            if let Err(error) = action(listener) {
                tracing::warn!(slot = member.slot, "TCP_DEFER_ACCEPT: {error}");
            }
        }
    }

    /// Empties a slot; its listener is no longer selected by anything.
    pub(crate) fn clear(&mut self, slot: Slot) {
        if let Err(error) = self.steering.clear(slot) {
            tracing::warn!(service = %self.name, slot, "{}", chain(&error));
        }
    }

    pub(crate) fn note(&mut self, generation: &Name, what: impl Into<String>) {
        self.timeline.note(&self.name, generation, what);
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

/// Inspects the descriptors that came with a registration.
///
/// Returns the listeners and the network namespace that the first of them is in.
pub(crate) fn inspect(
    specs: &[ListenerSpec],
    fds: Vec<OwnedFd>,
) -> Result<(Vec<Custody>, OwnedFd), Refusal> {
    let bad = |text: String| Refusal::new(ErrorCode::BadMessage, text);
    if specs.len() != fds.len() {
        let text = format!(
            "{} listeners were named, {} descriptors came",
            specs.len(),
            fds.len()
        );
        return Err(bad(text));
    }
    let mut netns = None;
    let mut listeners = Vec::with_capacity(fds.len());
    for (spec, fd) in specs.iter().zip(fds) {
        let (listener, its_netns) = Custody::take(fd, spec.address)?;
        netns.get_or_insert(its_netns);
        listeners.push(listener);
    }
    let netns = netns.ok_or_else(|| bad("a registration needs at least one listener".into()))?;
    Ok((listeners, netns))
}
