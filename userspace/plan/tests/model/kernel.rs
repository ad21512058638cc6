//! The kernel's side: which listener a SYN goes to, and what a close does.

use synflip_plan::{Pending, Reading, Service, Stuck, Waiting};
use synflip_types::Slot;

use crate::{
    scope::Scope,
    world::{Broken, Left, Life, Link, NOW, SOON, World},
};

/// Where a SYN can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To { sock: usize, wild: bool },
    Stranger,
}

impl World {
    fn listening(&self, scope: &Scope, endpoint: usize) -> impl Iterator<Item = usize> {
        let bucket = scope.bucket(endpoint).into_iter();
        bucket.filter(|sock| self.socks[*sock].open)
    }

    /// The listeners that the published table has for an endpoint and that are open.
    pub(crate) fn steered_to(&self, endpoint: usize) -> Vec<usize> {
        let Some(table) = &self.table else {
            return Vec::new();
        };
        let Some(number) = self.endpoint_number(endpoint) else {
            return Vec::new();
        };
        let slots = table.slots(number).iter();
        let mut socks: Vec<usize> = slots
            .filter_map(|slot| self.slots.get(slot)?.sock)
            .collect();
        socks.sort_unstable();
        socks.dedup();
        socks
    }

    /// An endpoint's number in the table, as the notes have it.
    pub(crate) fn endpoint_number(&self, endpoint: usize) -> Option<u32> {
        let address = crate::world::address(endpoint);
        let mut notes = self.slots.values().filter_map(|entry| entry.note.as_ref());
        let noted = notes.find(|note| note.address == address);
        noted.map(|note| note.endpoint.0).or_else(|| {
            let places = self.machine.as_ref()?.places();
            let mut places = places.iter();
            let found = places.find(|(_, place)| place.address == address);
            found.map(|(id, _)| id.0)
        })
    }

    /// Where a SYN that comes now can go: what the program selects, and if it does not, any
    /// listener of the group.
    pub(crate) fn choices(&self, scope: &Scope, endpoint: usize) -> Vec<Goes> {
        if self.program[endpoint] {
            let steered = self.steered_to(endpoint);
            if !steered.is_empty() {
                let to = |sock| Goes::To { sock, wild: false };
                return steered.into_iter().map(to).collect();
            }
        }
        let all = self.listening(scope, endpoint);
        let mut choices: Vec<Goes> = all.map(|sock| Goes::To { sock, wild: true }).collect();
        if self.stranger[endpoint] {
            choices.push(Goes::Stranger);
        }
        choices
    }

    pub(crate) fn syn(&mut self, scope: &Scope, goes: Goes) {
        self.budget.connections -= 1;
        if let Goes::To { sock, wild } = goes {
            let listener = &mut self.socks[sock];
            listener.wild |= wild;
            if scope.flights {
                listener.flight += 1;
            } else {
                listener.half += 1;
            }
        }
    }

    /// A grace period has passed: whatever has chosen its listener is a request on it.
    pub(crate) fn grace(&mut self) {
        for sock in &mut self.socks {
            sock.half += std::mem::take(&mut sock.flight);
        }
    }

    /// Closes listeners that nobody has a descriptor of any more.
    pub(crate) fn reap(&mut self, scope: &Scope) -> Result<(), Broken> {
        for sock in 0..self.socks.len() {
            let listener = &self.socks[sock];
            let held = listener.procs != 0 || listener.lent != 0 || listener.store;
            if listener.open && !held && !self.in_custody(sock) {
                self.close(scope, sock)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, scope: &Scope, sock: usize) -> Result<(), Broken> {
        let endpoint = scope.socks[sock].endpoint;
        let before = self.socks[sock].clone();
        let after = &mut self.socks[sock];
        (after.open, after.wild) = (false, false);
        (after.flight, after.half, after.queued) = (0, 0, 0);
        for entry in self.slots.values_mut() {
            if entry.sock == Some(sock) {
                entry.sock = None;
            }
        }
        // A request that is half-open when the listener closes can be lost although it moves.
        let moves = scope.migrates && before.half == 0 && before.flight == 0;
        let to = self.choices(scope, endpoint).into_iter().next();
        let moved = match to {
            Some(Goes::To { sock: to, .. }) if moves => {
                self.socks[to].queued += before.queued;
                self.socks[to].wild |= before.wild;
                before.queued
            }
            _ => 0,
        };
        if before.pending() > moved {
            self.lost(scope, sock, &before)?;
        }
        if self.listening(scope, endpoint).next().is_none() && !self.stranger[endpoint] {
            self.program[endpoint] = false;
        }
        Ok(())
    }

    /// Whether what was pending on a listener may be lost with it; [`crate::properties`] says why.
    fn lost(&self, scope: &Scope, sock: usize, before: &crate::world::Sock) -> Result<(), Broken> {
        let endpoint = scope.socks[sock].endpoint;
        let hold_is_over = self.unheld[endpoint].is_some_and(|since| {
            let for_good = before.left == Some(Left::ForGood);
            since >= scope.hold || for_good || self.stranger[endpoint]
        });
        if before.exposed || before.forced || before.wild || hold_is_over {
            return Ok(());
        }
        Err(format!(
            "a connection is lost: listener {sock} (left {:?}, unheld {:?}) was closed with {} on the way, {} half-open, \
             {} queued",
            before.left, self.unheld, before.flight, before.half, before.queued
        ))
    }

    /// What the agent's look shows of a listener with a queue that nobody accepts from.
    pub(crate) fn notice(&self, scope: &Scope, sock: usize) -> Option<Waiting> {
        let slot = self.custody.iter().find(|(_, kept)| **kept == sock)?.0;
        let listener = &self.socks[sock];
        let endpoint = scope.socks[sock].endpoint;
        let beside = |other: &usize| scope.socks[*other].endpoint == endpoint;
        let mut others = (0..self.socks.len()).filter(beside);
        Some(Waiting {
            slot: Slot(*slot),
            queued: listener.queued.into(),
            beside: others.any(|other| self.acceptors(other) != 0),
            lendable: true,
        })
    }

    /// A listener whose queue nobody accepts from while somebody could, and who is not known yet to
    /// be so.
    pub(crate) fn waiting(&self, scope: &Scope) -> Option<usize> {
        (0..self.socks.len()).find(|sock| {
            let listener = &self.socks[*sock];
            let waits = listener.hung && listener.procs != 0 && listener.queued > 0;
            let endpoint = scope.socks[*sock].endpoint;
            waits
                && listener.lent == 0
                && !self.is_only_asked(*sock)
                && self.in_custody(*sock)
                && self.is_of_working(scope, *sock)
                && self.is_served(endpoint)
        })
    }

    /// Whether a listener is of the generation that works.
    pub(crate) fn is_of_working(&self, scope: &Scope, sock: usize) -> bool {
        let machine = self.machine.as_ref();
        let working = machine.and_then(|machine| machine.generation(machine.working()?));
        let its = scope.generation_of(sock);
        working.is_some_and(|working| its < 7 && working.name == crate::world::name(its))
    }

    /// Whether somebody whom the table names accepts at an endpoint.
    pub(crate) fn is_served(&self, endpoint: usize) -> bool {
        let mut steered = self.steered_to(endpoint).into_iter();
        steered.any(|sock| self.known(self.acceptors(sock)) != 0)
    }

    /// Whether the agent has given it a connection, and its queue is empty now.
    pub(crate) fn is_asked_and_empty(&self, sock: usize) -> bool {
        let listener = &self.socks[sock];
        let is_empty = listener.queued == 0 && listener.half == 0;
        self.machine.is_some() && listener.asked && listener.open && is_empty
    }

    /// Whether nothing but the agent's own connection is in a listener's queue.
    pub(crate) fn is_only_asked(&self, sock: usize) -> bool {
        let machine = self.machine.iter();
        let working = self.machine.as_ref().and_then(Service::working);
        let mut listeners = machine.flat_map(|machine| machine.listeners().values());
        let its = listeners.find(|listener| listener.cookie == crate::world::cookie(sock));
        its.is_some_and(|its| {
            let asked = its.stuck == Some(Stuck::Asked) && Some(its.generation) == working;
            asked && self.socks[sock].queued <= 1
        })
    }

    /// A listener that came to have something queued past the program when nobody looked: the
    /// agent polls what nobody serves, and sees that it has become readable.
    pub(crate) fn readable(&self, scope: &Scope) -> Option<usize> {
        let looks = self.wake.is_some_and(|at| at - NOW <= SOON);
        (0..self.socks.len()).find(|sock| {
            let listener = &self.socks[*sock];
            let nobodys = listener.procs == 0 && listener.lent == 0 && self.in_custody(*sock);
            let served = self.is_accepted_at(scope, scope.socks[*sock].endpoint);
            listener.queued > 0 && listener.wild && nobodys && served && !looks
        })
    }

    /// What `/proc` shows of a listener.
    pub(crate) fn reading(&self, slot: u32, sock: Option<usize>) -> Reading {
        let custody = self.custody.get(&slot);
        let Some(sock) = custody.copied().or(sock) else {
            return Reading::Gone;
        };
        let listener = &self.socks[sock];
        if !listener.open {
            return Reading::Gone;
        }
        if custody.is_none() {
            return Reading::Unknown;
        }
        Reading::Pending(Pending {
            refcnt: 1 + u32::from(listener.half) + u32::from(listener.queued),
            queued: u32::from(listener.queued),
        })
    }

    /// Keeps account of since when nobody has held a listener at each endpoint.
    pub(crate) fn watch_holders(&mut self, scope: &Scope) {
        // Whoever is to close is nobody to wait for.
        let processes = self.procs.iter().enumerate();
        let members = processes.filter(|(at, process)| process.member && self.is_known(*at));
        let remaining = self.remaining(scope);
        let members = members.fold(0, |all, (at, _)| all | 1 << at) & remaining;
        for (at, process) in scope.procs.iter().enumerate() {
            // Whoever was of a generation that is over now has left it for good.
            for sock in process.socks.iter().filter(|_| remaining & 1 << at == 0) {
                let listener = &mut self.socks[*sock];
                if listener.open && listener.procs == 0 && listener.left.is_some() {
                    listener.left = Some(Left::ForGood);
                }
            }
        }
        for endpoint in 0..2 {
            let its = |sock: &usize| scope.socks[*sock].endpoint == endpoint;
            let held = (0..self.socks.len())
                .filter(its)
                .any(|sock| self.socks[sock].procs & members != 0);
            if held {
                self.unheld[endpoint] = None;
            } else {
                self.unheld[endpoint].get_or_insert(0);
            }
        }
    }

    /// Whether an agent can know of a process: it has come to this one, or is noted. Of several
    /// that share a listener, one is noted.
    fn is_known(&self, process: usize) -> bool {
        let id = crate::world::followed(process);
        let is_followed = |machine: &Service| machine.processes().contains_key(&id);
        self.procs[process].link != Link::Off || self.machine.as_ref().is_none_or(is_followed)
    }

    /// A process closes its listeners, or dies.
    pub(crate) fn let_go(&mut self, scope: &Scope, process: usize) -> Result<(), Broken> {
        let bit = 1 << process;
        // Whoever is to close has closed if it ends.
        let is_to_close = self.remaining(scope) & bit == 0;
        let left = if is_to_close {
            Left::ForGood
        } else {
            Left::Expecting
        };
        let is_known = self.is_known(process);
        let ids = [
            crate::world::followed(process),
            crate::world::connection(process),
        ];
        for (at, sock) in self.socks.iter_mut().enumerate() {
            let mut listeners = self.machine.iter().flat_map(|m| m.listeners().values());
            let noted = listeners.find(|listener| listener.cookie == crate::world::cookie(at));
            let is_holder = |id| noted.is_none_or(|noted| noted.holders.contains_key(id));
            let is_known = is_known && ids.iter().any(is_holder);
            if sock.procs & bit != 0 {
                sock.procs &= !bit;
                // Of those that this agent does not know nobody hears.
                if is_known {
                    sock.left = Some(left);
                }
            }
            sock.lent &= !bit;
        }
        self.procs[process].life = Life::Gone;
        self.watch_holders(scope);
        self.reap(scope)
    }
}
