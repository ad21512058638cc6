//! The servers' side: they register, say that they are ready, accept, close and die.

use synflip_plan::{Answer, Asker, Departure, Input, Join, PlanError};

use crate::{
    scope::Scope,
    world::{Broken, Life, Link, World, address, adopter, connection, cookie, followed, name},
};

impl World {
    /// Whether a process can open its listeners, or inherit them from one that lives.
    pub(crate) fn can_start(&self, scope: &Scope, process: usize) -> bool {
        scope.procs[process].socks.iter().all(|sock| {
            let listener = &self.socks[*sock];
            let is_new = !listener.open && listener.left.is_none();
            is_new || listener.open && listener.procs != 0
        })
    }

    /// A process opens its listeners. It registers in a step of its own.
    pub(crate) fn start(&mut self, scope: &Scope, process: usize) {
        self.procs[process].life = Life::Alive;
        // Whoever is adopted has been accepting for long.
        self.procs[process].ready = !scope.procs[process].talks;
        for sock in &scope.procs[process].socks {
            let listener = &mut self.socks[*sock];
            if !listener.open && listener.left.is_none() {
                (listener.open, listener.exposed) = (true, true);
            }
            if listener.open {
                listener.procs |= 1 << process;
                listener.left = None;
            }
        }
    }

    pub(crate) fn register(&mut self, scope: &Scope, process: usize) -> Result<(), Broken> {
        let spec = &scope.procs[process];
        let its = |sock: &&usize| self.socks[**sock].procs & 1 << process != 0;
        let listeners = spec.socks.iter().filter(its).map(|sock| {
            let endpoint = scope.socks[*sock].endpoint;
            (address(endpoint), cookie(*sock))
        });
        let (by, answer) = if spec.talks {
            (connection(process), connection(process))
        } else {
            (followed(process), adopter(process))
        };
        let asker = |process| Asker {
            process,
            request: synflip_types::RequestId(0),
        };
        let join = Join {
            by: asker(by),
            answer: asker(answer),
            name: Some(name(spec.generation)),
            listeners: listeners.collect(),
            talks: spec.talks,
        };
        self.procs[process].link = Link::Joining;
        self.tell(scope, Input::Join(join))
    }

    pub(crate) fn join_answered(
        &mut self,
        scope: &Scope,
        to: Asker,
        answer: &Answer,
    ) -> Result<(), Broken> {
        let process = crate::world::process_of(to.process);
        let state = &mut self.procs[process];
        if state.life != Life::Alive {
            return Ok(());
        }
        match answer {
            Answer::Registered { .. } => {
                if state.link != Link::Joining {
                    return Err(format!("process {process} is answered twice"));
                }
                (state.link, state.member) = (Link::Joined, true);
                state.said |= !scope.procs[process].talks;
                Ok(())
            }
            Answer::Done => Ok(()),
            // Its listeners are another process's too, or its generation is over: it ends.
            Answer::Refused(why) => {
                let excused = matches!(why, PlanError::Kernel { .. });
                if state.member && !excused {
                    return Err(format!("process {process} cannot come back: {why}"));
                }
                for sock in &scope.procs[process].socks {
                    self.socks[*sock].exposed |= !self.in_custody(*sock);
                }
                self.leaves(scope, process, Departure::Died)?;
                for sock in scope.procs[process].socks.iter() {
                    let listener = &mut self.socks[*sock];
                    if listener.procs == 0 {
                        // Who was refused is nobody to wait for.
                        listener.left = Some(crate::world::Left::ForGood);
                    }
                }
                Ok(())
            }
            other => Err(format!("process {process} gets an odd answer: {other:?}")),
        }
    }

    pub(crate) fn says_ready(&mut self, scope: &Scope, process: usize) -> Result<(), Broken> {
        (self.procs[process].ready, self.procs[process].said) = (true, true);
        let by = Asker {
            process: connection(process),
            request: synflip_types::RequestId(1),
        };
        self.tell(scope, Input::Ready { by })
    }

    /// A process closes its listeners and says so, or ends.
    pub(crate) fn leaves(
        &mut self,
        scope: &Scope,
        process: usize,
        how: Departure,
    ) -> Result<(), Broken> {
        let id = self.known_as(scope, process);
        if self.machine.is_some() {
            self.reports.push_back(Input::Left { process: id, how });
        }
        let result = self.let_go(scope, process);
        self.procs[process].link = Link::Off;
        result
    }

    /// A borrower has found nothing queued.
    pub(crate) fn gives_back(
        &mut self,
        scope: &Scope,
        process: usize,
        sock: usize,
    ) -> Result<(), Broken> {
        self.socks[sock].lent &= !(1 << process);
        if self.machine.is_some() && self.procs[process].link == Link::Joined {
            self.reports.push_back(Input::Emptied {
                process: connection(process),
                listeners: vec![cookie(sock)],
            });
        }
        self.reap(scope)
    }
}
