//! What must hold whenever the agent has nothing to do, and what once everything has come to rest.

use std::fmt::Write as _;

use synflip_plan::Phase;
use synflip_types::Name;

use crate::{
    scope::Scope,
    world::{Broken, Life, Link, NOW, SOON, World, followed},
};

impl World {
    /// What must hold while no effect is outstanding.
    pub(crate) fn check_idle(&self, scope: &Scope) -> Result<(), Broken> {
        let Some(machine) = self.machine.as_ref().filter(|_| self.is_idle()) else {
            return Ok(());
        };
        if machine.is_busy() && !self.is_joining() {
            return Err("it waits for a report that nobody will make".into());
        }
        if machine.table() != self.table.as_ref().filter(|table| !table.is_empty()) {
            return Err("it does not know which table the kernel follows".into());
        }
        let working = self.table.as_ref().map(synflip_plan::Table::generation);
        if machine.working() != working {
            return Err("it does not know which generation the kernel follows".into());
        }
        for endpoint in 0..2 {
            if !self.refused && !machine.is_busy() {
                self.check_table(scope, endpoint)?;
            }
            self.check_stranded(scope, endpoint)?;
        }
        Ok(())
    }

    fn is_joining(&self) -> bool {
        self.procs
            .iter()
            .any(|process| process.link == Link::Joining)
    }

    /// Where somebody accepts, the table names nobody who does not.
    fn check_table(&self, scope: &Scope, endpoint: usize) -> Result<(), Broken> {
        if !self.is_accepted_at(scope, endpoint) {
            return Ok(());
        }
        let steered = self.steered_to(endpoint);
        if steered.is_empty() {
            return Err(format!("no table names anybody at endpoint {endpoint}"));
        }
        // One who has yet to come back to this agent accepts all the same.
        let nobody = |sock: &&usize| {
            // Of several that share a listener, the one who comes back first to a new agent may
            // be taken for the one that was ready.
            let sharers = scope.procs.iter().filter(|p| p.socks.contains(sock));
            let is_shared = sharers.count() > 1 && self.socks[**sock].procs != 0;
            self.acceptors(**sock) == 0 && !is_shared
        };
        match steered.iter().find(nobody) {
            Some(sock) => Err(format!(
                "connections go to listener {sock}, where nobody accepts, while somebody could"
            )),
            None => Ok(()),
        }
    }

    /// What is queued where nobody accepts is looked after soon.
    fn check_stranded(&self, scope: &Scope, endpoint: usize) -> Result<(), Broken> {
        if !self.is_accepted_at(scope, endpoint) {
            return Ok(());
        }
        let soon = self.wake.is_some_and(|at| at - NOW <= SOON);
        for (sock, listener) in self.socks.iter().enumerate() {
            let its = scope.socks[sock].endpoint == endpoint;
            // The server that holds it may become ready yet, or is about to close it.
            let served = listener.procs != 0 || listener.lent != 0;
            let polled = self.readable(scope) == Some(sock);
            if its && listener.queued > 0 && !served && !soon && !polled {
                return Err(format!(
                    "a request is stranded on listener {sock} while somebody could accept it"
                ));
            }
        }
        Ok(())
    }

    /// What must hold once nothing is left to do.
    pub(crate) fn check_rest(&self, scope: &Scope) -> Result<(), Broken> {
        let Some(machine) = &self.machine else {
            return Err("there is no agent".into());
        };
        if machine.is_busy() {
            return Err("it waits for a report that nobody will make".into());
        }
        if !self.requests.is_empty() {
            return Err("an operator's request is never answered".into());
        }
        for generation in machine.generations() {
            // It may have to stand in for listeners that the working one has lost.
            let stands_in = (0..2)
                .flat_map(|endpoint| self.steered_to(endpoint))
                .any(|sock| crate::world::name(scope.generation_of(sock)) == generation.name);
            if generation.phase == Phase::Draining && !stands_in {
                return Err(format!("the drain of {} never ends", generation.name));
            }
        }
        for (at, process) in self.procs.iter().enumerate() {
            if process.life == Life::Alive && process.link != Link::Joined {
                return Err(format!("process {at} never gets an answer"));
            }
        }
        for (sock, listener) in self.socks.iter().enumerate() {
            let endpoint = scope.socks[sock].endpoint;
            if listener.pending() > 0 && self.is_accepted_at(scope, endpoint) {
                return Err(format!("a request on listener {sock} is never accepted"));
            }
            if listener.open && listener.procs != 0 && listener.exposed {
                return Err(format!("nobody takes custody of listener {sock}"));
            }
            let is_left = listener.open && listener.procs == 0;
            if is_left && !self.is_tombstone(scope, sock) {
                return Err(format!("listener {sock} is never closed"));
            }
        }
        for endpoint in 0..2 {
            self.check_table(scope, endpoint)?;
            let served = self.is_accepted_at(scope, endpoint);
            if served && !self.program[endpoint] {
                return Err(format!("the program is never put back on group {endpoint}"));
            }
        }
        self.check_forgotten(scope)
    }

    /// The machine knows nobody who has ended.
    fn check_forgotten(&self, _scope: &Scope) -> Result<(), Broken> {
        let Some(machine) = &self.machine else {
            return Ok(());
        };
        for (at, process) in self.procs.iter().enumerate() {
            let known = |id| machine.processes().contains_key(&id);
            let gone = process.life == Life::Gone;
            if gone && (known(followed(at)) || known(crate::world::connection(at))) {
                return Err(format!("process {at} has ended and is never forgotten"));
            }
        }
        Ok(())
    }

    /// Whether a listener stays open only because it is the first of its bucket and another one
    /// is needed.
    fn is_tombstone(&self, scope: &Scope, sock: usize) -> bool {
        let endpoint = scope.socks[sock].endpoint;
        let mut bucket = scope.bucket(endpoint);
        bucket.retain(|sock| self.socks[*sock].open);
        bucket.first() == Some(&sock) && bucket.iter().any(|sock| self.socks[*sock].procs != 0)
    }

    /// A generation is said to be drained: nothing is pending on its listeners, and nothing can
    /// come.
    pub(crate) fn is_drained(&self, scope: &Scope, generation: &Name) -> Result<(), Broken> {
        for (sock, listener) in self.socks.iter().enumerate() {
            let its = scope.generation_of(sock);
            if its > 7 || crate::world::name(its) != *generation || !listener.open {
                continue;
            }
            let endpoint = scope.socks[sock].endpoint;
            if listener.exposed || !self.program[endpoint] {
                continue;
            }
            if listener.pending() > 0 && !listener.wild {
                return Err(format!(
                    "{generation} is said to be drained; on listener {sock} there are {} on the \
                     way, {} half-open, {} queued",
                    listener.flight, listener.half, listener.queued
                ));
            }
            if self.steered_to(endpoint).contains(&sock) {
                return Err(format!(
                    "{generation} is said to be drained while connections go to listener {sock}"
                ));
            }
        }
        Ok(())
    }

    /// What there is at rest, as an operator sees it: with and without a crash on the way it must
    /// be the same.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        let Some(machine) = &self.machine else {
            return text;
        };
        let of = |id| machine.generation(id).map(|g| g.name.clone());
        let working = machine.working().and_then(of);
        let previous = machine.previous().and_then(of);
        let _infallible = write!(
            text,
            "epoch {}, working {working:?}, before {previous:?},",
            machine.epoch()
        );
        for generation in machine.generations() {
            let _infallible = write!(text, " {} {:?},", generation.name, generation.phase);
        }
        for endpoint in 0..2 {
            let _infallible = write!(text, " {endpoint}: {:?}", self.steered_to(endpoint));
        }
        text
    }
}
