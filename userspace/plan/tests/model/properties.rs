//! What must hold whenever the agent has nothing to do, and what once everything has come to rest.
//!
//! # Exceptions
//!
//! A connection may be lost with its listener (`lost`) only if
//! - nobody but servers had a descriptor of it since an agent could take one (`exposed`): its agent
//!   died, or it had not registered yet. The last close resets what is pending
//!   ([`inet_csk_listen_stop`]);
//! - it came past the program since the agent last looked (`wild`): to look and to close are two
//!   system calls, and a group whose program was taken away chooses among all its members
//!   ([`reuseport_select_sock`]);
//! - an operator has given it up with `retire --force` (`forced`);
//! - nobody whom the agent can know is left at its endpoint that is not to close, and the hold is
//!   over: by the time, because the last one had been told to close or was refused, or because
//!   somebody who is not registered listens there.
//!
//! A generation may drain while something is pending on a listener of its own only if that is
//! `exposed` or `wild`, if the program is off the group at that moment, or if the listener was
//! noted as a tombstone: it had drained before, or was refused, and is handed over by itself.
//!
//! A table may name a listener whose processes are not ready only if several share it and an agent
//! has died: the notes name one of them, and not which of them was ready.
//!
//! [`inet_csk_listen_stop`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_connection_sock.c
//! [`reuseport_select_sock`]: https://elixir.bootlin.com/linux/v6.12/source/net/core/sock_reuseport.c

use std::fmt::Write as _;

use synflip_plan::{Generation, NoteState, Phase};
use synflip_types::Name;

use crate::{
    scope::Scope,
    world::{Broken, Life, Link, NOW, SOON, World, cookie, followed},
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
        let has_died = self.budget.agent_deaths < scope.budget.agent_deaths;
        let nobody = |sock: &&usize| {
            // Of several that share a listener, the one who comes back first to a new agent may
            // be taken for the one that was ready.
            let sharers = scope.procs.iter().filter(|p| p.socks.contains(sock));
            let is_shared = has_died && sharers.count() > 1 && self.socks[**sock].procs != 0;
            // That nobody accepts shows when somebody waits.
            self.acceptors(**sock) == 0 && !is_shared && !self.socks[**sock].hung
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
            let waits = listener.pending() > 0 && !self.is_only_asked(sock);
            let left_alone = listener.hung && !self.is_served(endpoint);
            if waits && self.is_accepted_at(scope, endpoint) && !left_alone {
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
        self.check_all_work(scope)?;
        for endpoint in 0..2 {
            self.check_table(scope, endpoint)?;
            let served = self.is_accepted_at(scope, endpoint);
            if served && !self.program[endpoint] {
                return Err(format!("the program is never put back on group {endpoint}"));
            }
        }
        self.check_forgotten(scope)
    }

    /// The table names each listener of the generation that works, if it is accepted from.
    fn check_all_work(&self, scope: &Scope) -> Result<(), Broken> {
        let working = self.machine.as_ref().and_then(|machine| {
            let working = machine.generation(machine.working()?)?;
            Some(working.name.clone())
        });
        for sock in 0..self.socks.len() {
            let generation = scope.generation_of(sock);
            let works = generation < 7 && Some(crate::world::name(generation)) == working;
            let accepted = self.known(self.acceptors(sock)) != 0;
            let steered = self.steered_to(scope.socks[sock].endpoint);
            if works && accepted && !steered.contains(&sock) {
                return Err(format!(
                    "listener {sock} is accepted from, and gets nothing"
                ));
            }
        }
        Ok(())
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

    /// Those generations that have drained now have: whether anybody can be told so or not.
    pub(crate) fn check_drained_since(
        &self,
        scope: &Scope,
        before: &[Generation],
    ) -> Result<(), Broken> {
        let is_over = |phase| matches!(phase, Phase::Leaving | Phase::Standby | Phase::Drained);
        let machine = self.machine.iter();
        for generation in machine.flat_map(|machine| machine.generations()) {
            let old = before.iter().find(|old| old.id == generation.id);
            if is_over(generation.phase) && old.is_some_and(|old| !is_over(old.phase)) {
                self.is_drained(scope, &generation.name)?;
            }
        }
        Ok(())
    }

    /// A generation has drained: nothing is pending on its listeners, and nothing can come.
    pub(crate) fn is_drained(&self, scope: &Scope, generation: &Name) -> Result<(), Broken> {
        self.nothing_comes(scope, generation)?;
        for (sock, listener) in self.socks.iter().enumerate() {
            let its = scope.generation_of(sock);
            if its > 7 || crate::world::name(its) != *generation || !listener.open {
                continue;
            }
            let endpoint = scope.socks[sock].endpoint;
            // A tombstone has drained before; what has come past the program since is handed over.
            let mut notes = self.slots.values().filter_map(|entry| entry.note.as_ref());
            let is_tombstone =
                notes.any(|note| note.cookie == cookie(sock) && note.state == NoteState::Tombstone);
            if listener.exposed || !self.program[endpoint] || is_tombstone {
                continue;
            }
            if listener.pending() > 0 && !listener.wild {
                return Err(format!(
                    "{generation} is said to be drained; on listener {sock} there are {} on the \
                     way, {} half-open, {} queued",
                    listener.flight, listener.half, listener.queued
                ));
            }
        }
        Ok(())
    }

    /// One of its servers is told so, which may be later: connections have gone elsewhere since.
    pub(crate) fn nothing_comes(&self, scope: &Scope, generation: &Name) -> Result<(), Broken> {
        for (sock, listener) in self.socks.iter().enumerate() {
            let its = scope.generation_of(sock);
            let is_its = its < 7 && crate::world::name(its) == *generation && listener.open;
            if is_its && self.steered_to(scope.socks[sock].endpoint).contains(&sock) {
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
            // An agent that comes after another finds out anew that nobody accepts from one.
            let mut steered = self.steered_to(endpoint);
            steered.retain(|sock| !self.socks[*sock].hung);
            let _infallible = write!(text, " {endpoint}: {steered:?}");
        }
        text
    }
}
