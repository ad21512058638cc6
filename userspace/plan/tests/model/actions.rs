//! What can happen next.

use synflip_plan::{Effect, Phase, Service};

use crate::{
    effects::{Mood, takes_time},
    kernel::Goes,
    scope::Scope,
    world::{Life, Link, World, name},
};

/// One step of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    CarryOut(Mood),
    Deliver,
    Restart,
    Register(usize),
    Ready(usize),
    CloseAsTold(usize),
    Accept(usize),
    AcceptLent(usize),
    GiveBack(usize, usize),
    Arrive(usize),
    Finish(usize),
    Poll(usize),
    Notice(usize),
    NoticeEmpty(usize),
    Sleep,
    // All of the above have to happen in the end; what follows need not.
    Start(usize),
    Syn(usize, Goes),
    GiveUp(usize),
    Flip(To, bool),
    Retire(usize, bool),
    Kill(usize),
    Stop(usize),
    KillAgent,
    Steal(usize),
    Intrude(usize),
    Hang(usize),
    Recover(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Generation(usize),
    Previous,
}

impl World {
    /// The step that is taken when nobody dawdles and nothing more goes wrong; none at rest.
    pub(crate) fn fair(&self, scope: &Scope) -> Option<Action> {
        if self.must_hear() {
            return Some(Action::Deliver);
        }
        if !self.effects.is_empty() {
            return Some(Action::CarryOut(Mood::Willing));
        }
        if !self.reports.is_empty() {
            return Some(Action::Deliver);
        }
        if self.machine.is_none() {
            return Some(Action::Restart);
        }
        let processes = 0..self.procs.len();
        let mut duties = processes.flat_map(|process| self.duty(scope, process));
        if let Some(action) = duties.next() {
            return Some(action);
        }
        let socks = 0..self.socks.len();
        if let Some(action) = socks.filter_map(|sock| self.progress(scope, sock)).next() {
            return Some(action);
        }
        if let Some(sock) = self.readable(scope) {
            return Some(Action::Poll(sock));
        }
        if let Some(sock) = self.waiting(scope) {
            return Some(Action::Notice(sock));
        }
        let mut socks = 0..self.socks.len();
        if let Some(sock) = socks.find(|sock| self.is_asked_and_empty(*sock)) {
            return Some(Action::NoticeEmpty(sock));
        }
        // Where nobody else accepts, nothing can be done for whoever waits until it does again.
        let mut hung = (0..self.socks.len()).filter(|sock| self.socks[*sock].hung);
        let is_alone = |sock: &usize| {
            let served = self.is_served(scope.socks[*sock].endpoint);
            !served || !self.is_of_working(scope, *sock)
        };
        if let Some(sock) = hung.find(is_alone) {
            return Some(Action::Recover(sock));
        }
        self.wake.map(|_| Action::Sleep)
    }

    /// What a process has to do.
    fn duty(&self, scope: &Scope, process: usize) -> Option<Action> {
        let state = self.procs[process];
        if state.life != Life::Alive {
            return None;
        }
        if state.told && scope.procs[process].talks {
            return Some(Action::CloseAsTold(process));
        }
        // The helper says so when it has been answered.
        if let Some(sock) = self.borrowed_and_empty(process)
            && state.link != Link::Joining
        {
            return Some(Action::GiveBack(process, sock));
        }
        match state.link {
            Link::Off => Some(Action::Register(process)),
            Link::Joined if !state.said => Some(Action::Ready(process)),
            _ => None,
        }
    }

    fn borrowed_and_empty(&self, process: usize) -> Option<usize> {
        (0..self.socks.len())
            .find(|s| self.socks[*s].lent & 1 << process != 0 && self.socks[*s].queued == 0)
    }

    /// What becomes of what is pending on a listener.
    fn progress(&self, scope: &Scope, sock: usize) -> Option<Action> {
        let listener = &self.socks[sock];
        if listener.queued > 0 && self.acceptors(sock) != 0 {
            Some(Action::Accept(sock))
        } else if listener.queued > 0 && self.borrower_accepts(scope, sock) {
            Some(Action::AcceptLent(sock))
        } else if listener.flight > 0 {
            Some(Action::Arrive(sock))
        } else if listener.half > 0 {
            Some(Action::Finish(sock))
        } else {
            None
        }
    }

    /// Whether the agent hears what has happened before anything else is looked at.
    ///
    /// While an effect that takes time is outstanding, what it hears changes nothing but its mind
    /// and what it will do after that effect: so it makes no difference whether anything else
    /// happens before or after. What it might have been told first might have happened first.
    fn must_hear(&self) -> bool {
        let is_outstanding = self.effects.front().is_some_and(takes_time);
        is_outstanding && !self.reports.is_empty()
    }

    /// All that can happen next, what is fair first.
    pub(crate) fn actions(&self, scope: &Scope) -> Vec<Action> {
        let mut actions = Vec::new();
        actions.extend(self.fair(scope));
        if self.must_hear() {
            return actions;
        }
        let mut add = |action| {
            if !actions.contains(&action) {
                actions.push(action);
            }
        };
        let head = self.effects.front();
        let takes_time = head.is_none_or(takes_time);
        if let Some(head) = head {
            let refusable = matches!(
                head,
                Effect::Fill { .. } | Effect::Attach { .. } | Effect::Publish { .. }
            );
            if refusable && self.budget.refusals > 0 && !self.published {
                add(Action::CarryOut(Mood::Refusing));
            }
        }
        if self.budget.agent_deaths > 0 && self.machine.is_some() {
            add(Action::KillAgent);
        }
        // At leisure, what has happened is heard of before anything else happens: what comes of it
        // is done later than that, and clients act before it is.
        let at_leisure = head.is_none() && !self.reports.is_empty() && !scope.flights;
        let closes = matches!(head, Some(Effect::Clear { .. } | Effect::Close { .. }));
        if takes_time && !at_leisure || closes {
            self.clients(scope, &mut add);
        }
        if at_leisure {
            add(Action::Deliver);
        } else if takes_time && !self.machine.as_ref().is_some_and(Service::is_over) {
            // Whoever comes when the service is over comes to another. What is said while a table
            // is being published is said when the programs follow it: the machine hears of nothing
            // before that.
            let to_come = matches!(head, Some(Effect::Publish { .. })) && !self.published;
            self.servers(scope, to_come, &mut add);
            if !self.reports.is_empty() {
                add(Action::Deliver);
            }
            if self.machine.is_some() && self.reports.is_empty() && !to_come {
                self.operators(scope, &mut add);
            }
        }
        if self.is_idle() && self.wake.is_some() {
            add(Action::Sleep);
        }
        if self.machine.is_none() {
            add(Action::Restart);
        }
        actions
    }

    fn clients(&self, scope: &Scope, add: &mut impl FnMut(Action)) {
        for endpoint in 0..2 {
            if self.budget.connections > 0 {
                for goes in self.choices(scope, endpoint) {
                    add(Action::Syn(endpoint, goes));
                }
            }
            if self.budget.thefts > 0 && self.program[endpoint] {
                add(Action::Steal(endpoint));
            }
            let is_there = self.program[endpoint] && !self.stranger[endpoint];
            if self.budget.strangers > 0 && is_there {
                add(Action::Intrude(endpoint));
            }
        }
        for (sock, listener) in self.socks.iter().enumerate() {
            if listener.queued > 0 && self.acceptors(sock) != 0 {
                add(Action::Accept(sock));
            }
            if listener.queued > 0 && self.borrower_accepts(scope, sock) {
                add(Action::AcceptLent(sock));
            }
            if self.budget.hangs > 0 && self.acceptors(sock) != 0 {
                add(Action::Hang(sock));
            }
            if listener.hung && listener.procs != 0 {
                add(Action::Recover(sock));
            }
            if listener.flight > 0 {
                add(Action::Arrive(sock));
            }
            if listener.half > 0 {
                add(Action::Finish(sock));
                if scope.flights {
                    add(Action::GiveUp(sock));
                }
            }
        }
    }

    /// What servers do; all of it, or only what may close a listener.
    fn servers(&self, scope: &Scope, only_closes: bool, add: &mut impl FnMut(Action)) {
        let agent = self.machine.is_some();
        for (at, state) in self.procs.iter().enumerate() {
            let spec = &scope.procs[at];
            if state.life == Life::Unborn && agent && !only_closes {
                // One after the other: their order changes nothing but numbers.
                let mut before = 0..at;
                let is_next = before.all(|other| {
                    self.procs[other].life != Life::Unborn || !self.can_start(scope, other)
                });
                if is_next && self.can_start(scope, at) {
                    add(Action::Start(at));
                }
            }
            if state.life != Life::Alive {
                continue;
            }
            if let Some(duty) = self.duty(scope, at).filter(|duty| {
                let needs_agent = matches!(duty, Action::Register(_) | Action::Ready(_));
                let closes = matches!(duty, Action::CloseAsTold(_) | Action::GiveBack(..));
                (agent || !needs_agent) && (closes || !only_closes)
            }) {
                add(duty);
            }
            if self.budget.kills > 0 {
                add(Action::Kill(at));
            }
            if self.budget.stops > 0 && spec.talks && !state.told {
                add(Action::Stop(at));
            }
        }
    }

    fn operators(&self, scope: &Scope, add: &mut impl FnMut(Action)) {
        let Some(machine) = &self.machine else { return };
        let phase = |generation: usize| {
            let name = name(generation);
            let found = machine.generations().iter().find(|g| g.name == name);
            found.map(|g| g.phase)
        };
        for generation in 0..scope.generations() {
            let Some(phase) = phase(generation) else {
                continue;
            };
            if self.budget.flips > 0 && phase != Phase::Working && phase != Phase::Registered {
                add(Action::Flip(To::Generation(generation), false));
                if scope.keep {
                    add(Action::Flip(To::Generation(generation), true));
                }
            }
            if self.budget.retires > 0 && phase != Phase::Working {
                add(Action::Retire(generation, false));
                if scope.force {
                    add(Action::Retire(generation, true));
                }
            }
        }
        if self.budget.flips > 0 && scope.keep && machine.previous().is_some() {
            add(Action::Flip(To::Previous, true));
        }
    }
}
