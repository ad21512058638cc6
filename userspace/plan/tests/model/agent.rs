//! The agent's side: what it is told, how it dies, what a restart finds, and how time passes.

use synflip_plan::{Answer, Effect, Inherited, Input, Moment, NoteState, ProcessId, Service};
use synflip_types::Slot;

use crate::{
    scope::Scope,
    world::{
        Broken, Entry, Life, Link, NOW, World, connection, cookie, followed, process_of, rules,
    },
};

impl World {
    /// Tells the machine something.
    pub(crate) fn tell(&mut self, scope: &Scope, input: Input) -> Result<(), Broken> {
        let Some(machine) = &mut self.machine else {
            return Ok(());
        };
        let before = machine.generations().to_vec();
        let is_retirement = matches!(input, Input::Retire { .. });
        let effects = machine.on(input, NOW);
        if !is_retirement {
            self.check_drained_since(scope, &before)?;
        }
        self.take(scope, effects)
    }

    pub(crate) fn take(&mut self, scope: &Scope, effects: Vec<Effect>) -> Result<(), Broken> {
        let effects = crate::planted::change(scope, self, effects);
        for effect in &effects {
            if let Effect::Answer {
                to,
                answer: Answer::Refused(_),
            } = effect
            {
                self.is_refused(scope, process_of(to.process));
            }
        }
        self.effects.extend(effects);
        self.carry_out_what_nobody_sees(scope)
    }

    /// Whoever is refused, and has ended before it could hear so, is nobody to wait for.
    fn is_refused(&mut self, scope: &Scope, process: usize) {
        if self
            .procs
            .get(process)
            .is_some_and(|p| p.life == Life::Gone)
        {
            for sock in &scope.procs[process].socks {
                let listener = &mut self.socks[*sock];
                if listener.procs == 0 {
                    listener.left = Some(crate::world::Left::ForGood);
                }
            }
        }
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
            (sock.asked, sock.probes) = (false, 0);
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
        let before = machine.generations().to_vec();
        let effects = machine.on(Input::Time, NOW);
        let again = |effect: &Effect| matches!(effect, Effect::Wake { at } if *at <= NOW);
        if passed == 0 && effects.iter().all(again) && !effects.is_empty() {
            return Err("it is woken again and again for nothing".into());
        }
        self.check_drained_since(scope, &before)?;
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
