//! What each step does.

use synflip_plan::{Asker, Departure, FlipRequest, Input, Phase, Target};

use crate::{
    actions::{Action, To},
    scope::Scope,
    world::{Broken, World, name, operator},
};

impl World {
    /// Takes a step.
    pub(crate) fn step(&mut self, scope: &Scope, action: Action) -> Result<(), Broken> {
        let result = self.take_step(scope, action);
        self.watch_holders(scope);
        self.forget();
        result
    }

    fn take_step(&mut self, scope: &Scope, action: Action) -> Result<(), Broken> {
        match action {
            Action::CarryOut(mood) => self.carry_out(scope, mood),
            Action::Deliver => match self.reports.pop_front() {
                Some(report) => self.tell(scope, report),
                None => Ok(()),
            },
            Action::Restart => self.restart(scope),
            Action::Register(process) => self.register(scope, process),
            Action::Ready(process) => self.says_ready(scope, process),
            Action::CloseAsTold(process) | Action::Stop(process) => {
                if matches!(action, Action::Stop(_)) {
                    self.budget.stops -= 1;
                }
                self.leaves(scope, process, Departure::Closed)
            }
            Action::Kill(process) => {
                self.budget.kills -= 1;
                self.leaves(scope, process, Departure::Died)
            }
            Action::Accept(sock) | Action::AcceptLent(sock) => {
                self.socks[sock].queued -= 1;
                self.calm(sock);
                Ok(())
            }
            Action::GiveBack(process, sock) => self.gives_back(scope, process, sock),
            Action::Arrive(sock) => {
                self.socks[sock].flight -= 1;
                self.socks[sock].half += 1;
                Ok(())
            }
            Action::Finish(sock) => {
                self.socks[sock].half -= 1;
                self.socks[sock].queued += 1;
                Ok(())
            }
            Action::GiveUp(sock) => {
                self.socks[sock].half -= 1;
                self.calm(sock);
                Ok(())
            }
            Action::Poll(sock) => {
                self.seen(scope.socks[sock].endpoint);
                Ok(())
            }
            Action::Notice(sock) => {
                if let Some(notice) = self.notice(scope, sock) {
                    self.reports.push_back(Input::Waiting(vec![notice]));
                }
                Ok(())
            }
            Action::NoticeEmpty(sock) => {
                self.socks[sock].asked = false;
                let probes = self.socks[sock].probes;
                let kept = self.custody.iter().find(|(_, kept)| **kept == sock);
                if let Some(slot) = kept.map(|(slot, _)| synflip_types::Slot(*slot)) {
                    let report = Input::AcceptsAgain { slot, probes };
                    self.reports.push_back(report);
                }
                Ok(())
            }
            Action::Hang(sock) => {
                self.budget.hangs -= 1;
                self.socks[sock].hung = true;
                Ok(())
            }
            Action::Recover(sock) => {
                self.socks[sock].hung = false;
                Ok(())
            }
            Action::Sleep => self.sleep(scope),
            Action::Start(process) => {
                self.start(scope, process);
                Ok(())
            }
            Action::Syn(_, goes) => {
                self.syn(scope, goes);
                Ok(())
            }
            Action::Flip(to, keep) => self.ask_flip(scope, to, keep),
            Action::Retire(generation, force) => {
                self.budget.retires -= 1;
                let retire = Input::Retire {
                    by: self.request(),
                    generation: name(generation),
                    force,
                };
                self.tell(scope, retire)?;
                let machine = self.machine.as_ref();
                let mut generations = machine.into_iter().flat_map(|m| m.generations());
                let name = name(generation);
                let is_refused = generations.any(|g| g.name == name && g.phase != Phase::Drained);
                for (sock, listener) in self.socks.iter_mut().enumerate() {
                    let its = scope.generation_of(sock) == generation;
                    listener.forced |= listener.open && its && force && !is_refused;
                }
                Ok(())
            }
            Action::KillAgent => self.die(scope),
            Action::Steal(endpoint) => {
                self.budget.thefts -= 1;
                self.program[endpoint] = false;
                self.seen(endpoint);
                Ok(())
            }
            Action::Intrude(endpoint) => {
                self.budget.strangers -= 1;
                self.stranger[endpoint] = true;
                self.seen(endpoint);
                Ok(())
            }
        }
    }

    fn calm(&mut self, sock: usize) {
        if self.socks[sock].pending() == 0 {
            self.socks[sock].wild = false;
        }
    }

    fn request(&mut self) -> Asker {
        let number = (0..).find(|number| !self.requests.contains_key(number));
        let number = number.unwrap_or(0);
        self.requests.insert(number, false);
        operator(number)
    }

    fn ask_flip(&mut self, scope: &Scope, to: To, keep: bool) -> Result<(), Broken> {
        self.budget.flips -= 1;
        let by = self.request();
        let target = match to {
            To::Generation(generation) => Target::Named(name(generation)),
            To::Previous => Target::Previous,
        };
        let request = FlipRequest {
            by,
            target,
            if_epoch: None,
            // It is over before the second look at a drain.
            drain_ms: 50,
            keep,
            drop: Vec::new(),
        };
        self.tell(scope, Input::Flip(request))
    }

    /// The agent's look at the groups shows what has become of one.
    fn seen(&mut self, endpoint: usize) {
        let Some(machine) = &self.machine else { return };
        let address = crate::world::address(endpoint);
        let mut places = machine.places().iter();
        if let Some((id, _)) = places.find(|(_, place)| place.address == address) {
            self.reports.push_back(Input::Strangers {
                endpoint: *id,
                present: self.stranger[endpoint],
            });
        }
    }
}
