//! How effects are carried out, and what they report.

use synflip_plan::{
    Answer, DrainEnd, Effect, Event, Input, Moment, NotPublished, NoteState, ProcessId, Service,
};
use synflip_types::Slot;

use crate::{
    scope::Scope,
    world::{Broken, Life, Link, World, process_of, rules, sock_of},
};

/// How the kernel takes an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Willing,
    Refusing,
}

/// Whether the agent's deciding part may be told something while this is being done: it is done
/// elsewhere, and takes its time.
pub(crate) fn takes_time(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Publish { .. } | Effect::Read { .. } | Effect::Attach { .. } | Effect::Barrier
    )
}

impl World {
    /// Carries out what no other party can see the moment of.
    pub(crate) fn carry_out_what_nobody_sees(&mut self, scope: &Scope) -> Result<(), Broken> {
        loop {
            let dies = self.budget.agent_deaths > 0;
            let refuses = self.budget.refusals > 0;
            match self.effects.front() {
                Some(Effect::Record { .. } | Effect::Prepare { .. } | Effect::Wake { .. }) => {}
                Some(Effect::Answer { .. } | Effect::Tell { .. }) => {}
                Some(
                    Effect::Note { .. }
                    | Effect::Store { .. }
                    | Effect::Keep { .. }
                    | Effect::Fetch { .. }
                    | Effect::Lend { .. },
                ) if !dies => {}
                // There is nothing to wait for.
                Some(Effect::Barrier) if !scope.flights => {}
                Some(Effect::Fill { .. }) if !dies && !refuses => {}
                Some(Effect::Clear { slot }) if !dies && !self.is_steered_to(*slot) => {}
                _ => return Ok(()),
            }
            if let Some(effect) = self.effects.pop_front() {
                self.carry_out_one(scope, effect, Mood::Willing)?;
            }
        }
    }

    /// Whether connections may go to a slot yet.
    fn is_steered_to(&self, slot: Slot) -> bool {
        let mut named = self.table.iter().flat_map(|table| table.all_slots());
        self.budget.connections > 0 && named.any(|named| named == slot.0)
    }

    /// Carries out the next effect.
    pub(crate) fn carry_out(&mut self, scope: &Scope, mood: Mood) -> Result<(), Broken> {
        if let Some(effect) = self.effects.pop_front() {
            if mood == Mood::Refusing {
                self.budget.refusals -= 1;
            }
            self.carry_out_one(scope, effect, mood)?;
        }
        self.carry_out_what_nobody_sees(scope)
    }

    fn carry_out_one(&mut self, scope: &Scope, effect: Effect, mood: Mood) -> Result<(), Broken> {
        match effect {
            Effect::Fill { slot, cookie } => {
                let sock = sock_of(cookie);
                if self.socks[sock].open {
                    self.custody.insert(slot.0, sock);
                    self.socks[sock].exposed = false;
                }
                let elsewhere = self.slots.values().any(|entry| entry.sock == Some(sock));
                if mood == Mood::Refusing || elsewhere || !self.socks[sock].open {
                    let why = "the kernel refuses".into();
                    self.reports.push_back(Input::NotFilled { slot, why });
                } else {
                    self.slots.entry(slot.0).or_default().sock = Some(sock);
                }
            }
            Effect::Keep { slot, cookie } => {
                let sock = sock_of(cookie);
                if self.socks[sock].open {
                    self.custody.insert(slot.0, sock);
                    self.socks[sock].exposed = false;
                }
            }
            Effect::Fetch { slot, from } => {
                let sock = self.slots.get(&slot.0).and_then(|entry| entry.sock);
                if let Some(sock) = sock
                    && self.socks[sock].procs & 1 << process_of(from) != 0
                {
                    self.custody.insert(slot.0, sock);
                    self.socks[sock].exposed = false;
                    self.reports.push_back(Input::Fetched { slot });
                }
            }
            Effect::Note { slot, note } => {
                let listener = &mut self.socks[sock_of(note.cookie)];
                if note.state == NoteState::Tombstone && listener.procs == 0 {
                    // Nobody is to come back to it, however the last one left.
                    listener.left = Some(crate::world::Left::ForGood);
                }
                self.slots.entry(slot.0).or_default().note = Some(note);
            }
            Effect::Attach { join } => {
                let mut result = Ok(());
                if mood == Mood::Refusing {
                    result = Err("the kernel refuses the program".into());
                } else {
                    self.attach(scope);
                }
                self.reports.push_back(Input::Attached { join, result });
            }
            Effect::Barrier => self.grace(),
            Effect::Publish { table, members } => self.publish(scope, table, members, mood),
            Effect::Read { slots } => self.read(scope, &slots),
            Effect::Prepare { .. } | Effect::Record { .. } => {}
            Effect::Store { slot } => {
                if let Some(sock) = self.custody.get(&slot.0) {
                    self.socks[*sock].store = scope.store;
                }
            }
            Effect::Lend { slot, to } => {
                let process = process_of(to);
                let is_there = self.procs[process].life == Life::Alive
                    && self.procs[process].link != Link::Off;
                if let Some(sock) = self.custody.get(&slot.0).filter(|_| is_there) {
                    self.socks[*sock].lent |= 1 << process;
                }
            }
            Effect::Probe { slot } => {
                let sock = self.custody.get(&slot.0).copied();
                if let Some(sock) = sock.filter(|sock| self.socks[*sock].open) {
                    let listener = &mut self.socks[sock];
                    listener.queued += 1;
                    listener.probes += 1;
                    listener.asked = true;
                } else {
                    self.reports.push_back(Input::NotProbed { slot });
                }
            }
            Effect::Relay { slot } => {
                if let Some(sock) = self.custody.get(&slot.0) {
                    self.socks[*sock].queued = 0;
                }
            }
            Effect::Clear { slot } => {
                self.slots.remove(&slot.0);
            }
            Effect::Close { slot, .. } => return self.close_custody(scope, slot),
            Effect::Answer { to, answer } => return self.answered(scope, to, &answer),
            Effect::Tell { to, event } => return self.told(scope, to, event),
            // What is due at the end of time is never due.
            Effect::Wake { at } => self.wake = Some(at).filter(|at| *at != Moment(u64::MAX)),
            Effect::End => {
                self.slots.clear();
                self.table = None;
                self.machine = Some(Service::new(rules(scope)));
                self.wake = None;
            }
        }
        Ok(())
    }

    fn attach(&mut self, scope: &Scope) {
        for sock in self.custody.values() {
            if self.socks[*sock].open {
                self.program[scope.socks[*sock].endpoint] = true;
            }
        }
    }

    fn publish(
        &mut self,
        scope: &Scope,
        table: synflip_plan::Table,
        members: Vec<(Slot, synflip_types::Cookie)>,
        mood: Mood,
    ) {
        if self.published {
            self.published = false;
            self.grace();
            self.reports.push_back(Input::Published(Ok(())));
            return;
        }
        let is_gone = |(slot, cookie): &&(Slot, synflip_types::Cookie)| {
            let entry = self.slots.get(&slot.0);
            entry.and_then(|entry| entry.sock) != Some(sock_of(*cookie))
        };
        let gone = members.iter().find(is_gone).map(|(slot, _)| *slot);
        if gone.is_some() || mood == Mood::Refusing {
            self.refused = true;
            let why = "the kernel refuses the table".into();
            let refused = Input::Published(Err(NotPublished { gone, why }));
            self.reports.push_back(refused);
            return;
        }
        self.refused = false;
        self.attach(scope);
        self.table = Some(table.clone());
        // Its grace period is a step of its own.
        self.published = true;
        self.effects.push_front(Effect::Publish { table, members });
    }

    fn read(&mut self, scope: &Scope, slots: &[Slot]) {
        let sock = |slot: &Slot| {
            let noted = self.slots.get(&slot.0).and_then(|entry| entry.sock);
            self.custody.get(&slot.0).copied().or(noted)
        };
        let mut order: Vec<(usize, Slot)> = Vec::new();
        let buckets: Vec<usize> = (0..2).flat_map(|endpoint| scope.bucket(endpoint)).collect();
        for slot in slots {
            let at = sock(slot).and_then(|sock| buckets.iter().position(|other| *other == sock));
            order.push((at.unwrap_or(usize::MAX), *slot));
        }
        order.sort_unstable();
        let seen: Vec<usize> = order.iter().filter_map(|(_, slot)| sock(slot)).collect();
        let readings = order
            .into_iter()
            .map(|(_, slot)| (slot, self.reading(slot.0, sock(&slot))));
        let readings = crate::planted::readings(scope, readings.collect());
        self.reports.push_back(Input::Readings(readings));
        for sock in seen {
            let listener = &mut self.socks[sock];
            listener.wild &= listener.flight > 0;
        }
    }

    fn close_custody(&mut self, scope: &Scope, slot: Slot) -> Result<(), Broken> {
        let Some(sock) = self.custody.remove(&slot.0) else {
            return Ok(());
        };
        let is_kept = self.in_custody(sock);
        // Of one whose registration is not over nobody can know whether it comes.
        let members = self.members() & self.remaining(scope);
        let listener = &mut self.socks[sock];
        listener.store = false;
        let endpoint = scope.socks[sock].endpoint;
        let last = listener.open && !is_kept && listener.procs == 0 && listener.lent == 0;
        let is_held = listener.procs & members != 0;
        // One that it does not know may hold it.
        listener.exposed |= !last;
        let forced = listener.forced;
        let mut bucket = scope.bucket(endpoint);
        bucket.retain(|sock| self.socks[*sock].open);
        let needed = |other: &usize| *other != sock && self.socks[*other].procs & members != 0;
        if last && !forced && bucket.first() == Some(&sock) && bucket.iter().any(needed) {
            return Err(format!(
                "listener {sock}, the first of its bucket, was closed while others listen"
            ));
        }
        if is_held && !self.in_custody(sock) {
            return Err(format!(
                "the agent closes its duplicate of listener {sock}, which is in use"
            ));
        }
        self.reap(scope)
    }

    fn answered(
        &mut self,
        scope: &Scope,
        to: synflip_plan::Asker,
        answer: &Answer,
    ) -> Result<(), Broken> {
        if to.process.0 < 1_000 {
            return self.join_answered(scope, to, answer);
        }
        let number = to.request.0;
        let Some(committed) = self.requests.get_mut(&number) else {
            return Err(format!("request {number} was answered twice: {answer:?}"));
        };
        let over = match answer {
            Answer::Refused(_) | Answer::Done => !*committed,
            Answer::Committed(_) if !*committed => {
                *committed = true;
                return Ok(());
            }
            Answer::Draining { .. } if *committed => return Ok(()),
            Answer::DrainOver { .. } => *committed,
            _ => false,
        };
        if !over {
            return Err(format!(
                "request {number} was answered out of order: {answer:?}"
            ));
        }
        self.requests.remove(&number);
        if let Answer::DrainOver {
            generation: Some(generation),
            end: DrainEnd::Drained | DrainEnd::Standby,
        } = answer
        {
            let machine = self.machine.as_ref();
            let name = machine.and_then(|m| Some(m.generation(*generation)?.name.clone()));
            return name.map_or(Ok(()), |name| self.is_drained(scope, &name));
        }
        Ok(())
    }

    fn told(&mut self, scope: &Scope, to: ProcessId, event: Event) -> Result<(), Broken> {
        let process = process_of(to);
        if !scope.procs[process].talks {
            return Err(format!(
                "process {process} is told {event:?} and cannot hear it"
            ));
        }
        if self.procs[process].life != Life::Alive || self.procs[process].link == Link::Off {
            return Ok(());
        }
        match event {
            Event::Drained | Event::Standby | Event::Leaving => {
                let generation = scope.procs[process].generation;
                self.nothing_comes(scope, &crate::world::name(generation))?;
            }
            Event::Working | Event::Draining | Event::Retired | Event::Released => {}
        }
        if matches!(event, Event::Drained | Event::Retired) {
            self.procs[process].told = true;
        }
        Ok(())
    }
}
