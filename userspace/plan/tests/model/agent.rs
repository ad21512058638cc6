//! The agent's side: how effects are carried out, what they report, and what a restart finds.

use synflip_plan::{
    Answer, DrainEnd, Effect, Event, Inherited, Input, Moment, NotPublished, NoteState, ProcessId,
    Service,
};
use synflip_types::Slot;

use crate::{
    scope::Scope,
    world::{
        Broken, Entry, Life, Link, NOW, World, connection, cookie, followed, process_of, rules,
        sock_of,
    },
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
    /// Tells the machine something.
    pub(crate) fn tell(&mut self, scope: &Scope, input: Input) -> Result<(), Broken> {
        let Some(machine) = &mut self.machine else {
            return Ok(());
        };
        let effects = machine.on(crate::planted::told(scope, input), NOW);
        self.take(scope, effects)
    }

    pub(crate) fn take(&mut self, scope: &Scope, effects: Vec<Effect>) -> Result<(), Broken> {
        let effects = crate::planted::change(scope, self, effects);
        self.effects.extend(effects);
        self.carry_out_what_nobody_sees(scope)
    }

    /// Carries out what no other party can see the moment of.
    fn carry_out_what_nobody_sees(&mut self, scope: &Scope) -> Result<(), Broken> {
        loop {
            let dies = self.budget.agent_deaths > 0;
            match self.effects.front() {
                Some(Effect::Record { .. } | Effect::Prepare { .. } | Effect::Wake { .. }) => {}
                Some(Effect::Answer { .. } | Effect::Tell { .. }) => {}
                Some(Effect::Note { .. } | Effect::Store { .. } | Effect::Keep { .. }) if !dies => {
                }
                Some(Effect::Fill { .. } | Effect::Clear { .. })
                    if !dies && self.budget.refusals == 0 => {}
                _ => return Ok(()),
            }
            if let Some(effect) = self.effects.pop_front() {
                self.carry_out_one(scope, effect, Mood::Willing)?;
            }
        }
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
        let readings = order
            .into_iter()
            .map(|(_, slot)| (slot, self.reading(slot.0, sock(&slot))));
        let readings = crate::planted::readings(scope, readings.collect());
        self.reports.push_back(Input::Readings(readings));
    }

    fn close_custody(&mut self, scope: &Scope, slot: Slot) -> Result<(), Broken> {
        let Some(sock) = self.custody.remove(&slot.0) else {
            return Ok(());
        };
        let listener = &mut self.socks[sock];
        listener.store = false;
        let endpoint = scope.socks[sock].endpoint;
        let last = listener.open && listener.procs == 0 && listener.lent == 0;
        let mut bucket = scope.bucket(endpoint);
        bucket.retain(|sock| self.socks[*sock].open);
        // Of one whose registration is not over nobody can know whether it comes.
        let members = self.members();
        let needed = |other: &usize| *other != sock && self.socks[*other].procs & members != 0;
        if last && bucket.first() == Some(&sock) && bucket.iter().any(needed) {
            let forced = self.forced & 1 << scope.generation_of(sock) != 0;
            // Those that were retired are nobody to protect once the hold is over.
            let given_up = self.unheld[endpoint].is_some();
            if !forced && !given_up {
                return Err(format!(
                    "listener {sock}, the first of its bucket, was closed while others listen"
                ));
            }
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
                self.is_drained(scope, &crate::world::name(generation))?;
            }
            Event::Working | Event::Draining | Event::Retired => {}
        }
        if matches!(event, Event::Drained | Event::Retired) {
            self.procs[process].told = true;
            self.watch_holders(scope);
        }
        Ok(())
    }

    /// The agent dies.
    pub(crate) fn die(&mut self, scope: &Scope) -> Result<(), Broken> {
        self.budget.agent_deaths -= 1;
        self.machine = None;
        self.effects.clear();
        self.reports.clear();
        self.custody.clear();
        self.requests.clear();
        (self.wake, self.published, self.refused) = (None, false, false);
        for process in &mut self.procs {
            (process.link, process.said) = (Link::Off, false);
        }
        for sock in &mut self.socks {
            sock.exposed |= !sock.store;
        }
        self.reap(scope)
    }

    /// Another agent takes up what there is.
    pub(crate) fn restart(&mut self, scope: &Scope) -> Result<(), Broken> {
        let mut left = Vec::new();
        let mut kept_slots = std::collections::BTreeMap::new();
        for (slot, Entry { sock, note }) in &self.slots {
            let (Some(sock), Some(note)) = (sock, note) else {
                continue;
            };
            let kept = self.socks[*sock].store;
            let is_meant = note.cookie == cookie(*sock) && self.socks[*sock].open;
            if !is_meant || note.state == NoteState::Tombstone && !kept {
                continue;
            }
            if kept {
                self.custody.insert(*slot, *sock);
            }
            kept_slots.insert(*slot, self.slots[slot].clone());
            let process = note.process.map(process_of);
            let alive = process.filter(|at| self.procs[*at].life == Life::Alive);
            let mut note = note.clone();
            note.process = alive.map(followed);
            left.push(Inherited {
                slot: Slot(*slot),
                note,
                lives: alive.is_some(),
                kept,
            });
        }
        self.slots = kept_slots;
        for (at, process) in scope.procs.iter().enumerate() {
            let mut its = process.socks.iter().filter(|sock| self.socks[**sock].open);
            let known = its.all(|sock| {
                let mut left = left.iter();
                left.any(|left| {
                    left.note.cookie == cookie(*sock) && left.note.process == Some(followed(at))
                })
            });
            // Whoever had one adopted while the agent died tries again.
            if !process.talks && known && self.procs[at].member {
                self.procs[at].link = Link::Joined;
                self.procs[at].said = self.procs[at].ready;
            }
        }
        for sock in 0..self.socks.len() {
            self.socks[sock].store &= self.in_custody(sock);
            self.socks[sock].exposed &= !self.in_custody(sock);
        }
        let (machine, effects) = Service::recovered(rules(scope), self.table.clone(), &left, NOW);
        self.machine = Some(machine);
        self.take(scope, effects)?;
        self.reap(scope)
    }

    /// Nothing happens until the machine wants to be woken.
    pub(crate) fn sleep(&mut self, scope: &Scope) -> Result<(), Broken> {
        let Some(at) = self.wake.take() else {
            return Ok(());
        };
        let passed = at - NOW;
        if passed > 0 {
            self.grace();
        }
        let Some(machine) = &mut self.machine else {
            return Ok(());
        };
        machine.set_back(passed, Moment(NOW.0 + passed));
        for since in self.unheld.iter_mut().flatten() {
            *since = (*since + passed).min(scope.hold);
        }
        let effects = machine.on(Input::Time, NOW);
        let again = |effect: &Effect| matches!(effect, Effect::Wake { at } if *at <= NOW);
        if passed == 0 && effects.iter().all(again) && !effects.is_empty() {
            return Err("it is woken again and again for nothing".into());
        }
        self.take(scope, effects)
    }

    /// What a process that has ended was known by.
    pub(crate) fn known_as(&self, scope: &Scope, process: usize) -> ProcessId {
        if scope.procs[process].talks && self.procs[process].link != Link::Off {
            connection(process)
        } else {
            followed(process)
        }
    }
}
