//! What there is: listeners, processes, the agent, and who has asked for what.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{Hash, Hasher as _},
};

use synflip_plan::{
    Asker, Effect, Input, Moment, Note, Pace, Phase, ProcessId, Rules, Service, Table,
};
use synflip_types::{Cookie, Endpoint, Name, RequestId};

use crate::{budget::Budget, fingerprint::Fingerprint, planted::Mistake, scope::Scope};

/// What the clock shows. It never moves: when time passes, all else is set back.
pub(crate) const NOW: Moment = Moment(1_000_000_000);

/// Longest time that a request may wait until somebody is found for it, in milliseconds.
pub(crate) const SOON: u64 = 200;

/// A broken property, in words.
pub(crate) type Broken = String;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The agent's mind; none while it is dead.
    pub(crate) machine: Option<Service>,
    /// What it has yet to do.
    pub(crate) effects: VecDeque<Effect>,
    /// What has happened that it has not been told yet.
    pub(crate) reports: VecDeque<Input>,
    pub(crate) wake: Option<Moment>,
    /// Whether the table of the publication in hand is in the kernel, and its grace period has not
    /// passed.
    pub(crate) published: bool,
    /// The agent's descriptors: the slot that each is kept under, and the listener.
    pub(crate) custody: BTreeMap<u32, usize>,
    /// The pinned maps: what is in each slot.
    pub(crate) slots: BTreeMap<u32, Entry>,
    pub(crate) table: Option<Table>,
    /// Whether our program is on each endpoint's group.
    pub(crate) program: [bool; 2],
    /// Whether somebody who is not registered listens and accepts on each endpoint.
    pub(crate) stranger: [bool; 2],
    pub(crate) socks: Vec<Sock>,
    pub(crate) procs: Vec<Proc>,
    /// Requests of operators that wait, and whether their flip has committed.
    pub(crate) requests: BTreeMap<u64, bool>,
    pub(crate) budget: Budget,
    /// For how long no process has held a listener at each endpoint; at most the hold time.
    pub(crate) unheld: [Option<u64>; 2],
    /// Whether the kernel has refused a table since the agent last was idle.
    pub(crate) refused: bool,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// The socket array: the listener, until that is closed.
    pub(crate) sock: Option<usize>,
    pub(crate) note: Option<Note>,
}

/// A listener.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sock {
    pub(crate) open: bool,
    /// SYNs that have chosen it and are no requests on it yet.
    pub(crate) flight: u8,
    pub(crate) half: u8,
    pub(crate) queued: u8,
    /// The processes that it belongs to and that have it open.
    pub(crate) procs: u16,
    /// The processes that have been lent it and have it open.
    pub(crate) lent: u16,
    /// Whether systemd keeps a descriptor.
    pub(crate) store: bool,
    /// Whether no agent has been able to take a descriptor yet since nobody but its processes had
    /// one: nobody can help it if they die.
    pub(crate) exposed: bool,
    /// Whether something has come to it past the program since the agent last looked at it.
    pub(crate) wild: bool,
    /// Whether an operator has given up what is pending on it (`retire --force`).
    pub(crate) forced: bool,
    /// Whether its processes do not accept from it, although they live.
    pub(crate) hung: bool,
    /// How many connections the agent was to give it.
    pub(crate) probes: u32,
    /// Whether it is said when it is empty.
    pub(crate) asked: bool,
    /// Whether somebody is expected since the last of its processes left.
    pub(crate) left: Option<Left>,
}

/// What the end of a listener's last process means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Left {
    /// Whoever comes next gets what is pending.
    Expecting,
    /// Nobody is to come: it was told to close, or refused.
    ForGood,
}

impl Sock {
    pub(crate) fn pending(&self) -> u8 {
        self.flight + self.half + self.queued
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Proc {
    pub(crate) life: Life,
    pub(crate) link: Link,
    /// Whether it accepts.
    pub(crate) ready: bool,
    /// Whether this agent has been told so.
    pub(crate) said: bool,
    /// Whether it has been told to close.
    pub(crate) told: bool,
    /// Whether any agent has registered it.
    pub(crate) member: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    #[default]
    Unborn,
    Alive,
    Gone,
}

/// What a process and the agent know of each other.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    #[default]
    Off,
    Joining,
    Joined,
}

pub(crate) fn rules(scope: &Scope) -> Rules {
    let pace = |ms| Pace {
        first: ms,
        longest: ms,
    };
    Rules {
        // Who lives comes back, however long it takes.
        returns: u64::MAX,
        hold: match scope.mistake {
            Some(Mistake::NotHeld) => 0,
            _ => scope.hold,
        },
        migrates: scope.migrates,
        tombstones: scope.mistake != Some(Mistake::NoTombstone),
        generations: 8,
        slots: 64,
        // Multiples of one pause: how far one has come while another begins is nothing else then.
        drain: pace(50),
        closing: pace(100),
        publish: pace(100),
        absent: pace(200),
        stuck: pace(100),
    }
}

/// How the agent knows a process: by its connection, or by its pid.
pub(crate) fn connection(process: usize) -> ProcessId {
    ProcessId(1 + process as u64)
}

pub(crate) fn followed(process: usize) -> ProcessId {
    ProcessId(100 + process as u64)
}

pub(crate) fn process_of(id: ProcessId) -> usize {
    let number = match id.0 {
        500.. => id.0 - 500,
        100.. => id.0 - 100,
        _ => id.0 - 1,
    };
    usize::try_from(number).expect("process numbers are small")
}

/// Whoever has an adopted process adopted.
pub(crate) fn adopter(process: usize) -> ProcessId {
    ProcessId(500 + process as u64)
}

pub(crate) fn operator(request: u64) -> Asker {
    Asker {
        process: ProcessId(1_000),
        request: RequestId(request),
    }
}

pub(crate) fn name(generation: usize) -> Name {
    ["old", "mid", "new"][generation].parse().expect("a name")
}

pub(crate) fn address(endpoint: usize) -> Endpoint {
    let port = 80 + u16::try_from(endpoint).expect("two endpoints");
    Endpoint::tcp(([127, 0, 0, 1], port).into())
}

pub(crate) fn cookie(sock: usize) -> Cookie {
    Cookie(sock as u64 + 1)
}

pub(crate) fn sock_of(cookie: Cookie) -> usize {
    usize::try_from(cookie.0).expect("cookies are small") - 1
}

impl World {
    /// Nothing has been started but the agent.
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            machine: Some(Service::new(rules(scope))),
            effects: VecDeque::new(),
            reports: VecDeque::new(),
            wake: None,
            published: false,
            custody: BTreeMap::new(),
            slots: BTreeMap::new(),
            table: None,
            program: [false; 2],
            stranger: [false; 2],
            socks: vec![Sock::default(); scope.socks.len()],
            procs: vec![Proc::default(); scope.procs.len()],
            requests: BTreeMap::new(),
            budget: scope.budget,
            unheld: [None; 2],
            refused: false,
        }
    }

    /// Forgets what makes no difference any more: how whoever is gone was, and came to be gone.
    pub(crate) fn forget(&mut self) {
        for process in &mut self.procs {
            if process.life == Life::Gone {
                *process = Proc {
                    life: Life::Gone,
                    ..Proc::default()
                };
            }
        }
        for sock in &mut self.socks {
            if !sock.open && sock.left.is_some() {
                *sock = Sock {
                    left: Some(Left::Expecting),
                    ..Sock::default()
                };
            }
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = Fingerprint::default();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the agent lives and has nothing to do or to hear.
    pub(crate) fn is_idle(&self) -> bool {
        self.machine.is_some() && self.effects.is_empty() && self.reports.is_empty()
    }

    pub(crate) fn in_custody(&self, sock: usize) -> bool {
        // What has come with a registration is in hand before it is in its slot.
        let mut effects = self.effects.iter();
        let is_in_hand = effects.any(|effect| match effect {
            Effect::Fill { cookie, .. } | Effect::Keep { cookie, .. } => sock_of(*cookie) == sock,
            _ => false,
        });
        is_in_hand || self.custody.values().any(|kept| *kept == sock)
    }

    /// The processes that accept from a listener of their own.
    pub(crate) fn acceptors(&self, sock: usize) -> u16 {
        if self.socks[sock].hung {
            return 0;
        }
        let mut all = 0;
        for (at, process) in self.procs.iter().enumerate() {
            if process.ready && process.life == Life::Alive && !process.told {
                all |= self.socks[sock].procs & 1 << at;
            }
        }
        all
    }

    /// Whether somebody who has been lent a listener accepts at its address.
    pub(crate) fn borrower_accepts(&self, scope: &Scope, sock: usize) -> bool {
        let endpoint = scope.socks[sock].endpoint;
        let borrowers = self.socks[sock].lent;
        (0..self.socks.len()).any(|own| {
            let listener = &self.socks[own];
            let its = scope.socks[own].endpoint == endpoint && listener.procs & borrowers != 0;
            its && !listener.hung
        })
    }

    /// Whether somebody whom the agent knows accepts at an endpoint.
    pub(crate) fn is_accepted_at(&self, scope: &Scope, endpoint: usize) -> bool {
        let known = self.known(self.remaining(scope));
        (0..self.socks.len())
            .any(|sock| scope.socks[sock].endpoint == endpoint && self.acceptors(sock) & known != 0)
    }

    /// The processes that are not to close: their generation has neither drained nor been retired.
    ///
    /// One that has not come back to this agent hears it as soon as it does.
    pub(crate) fn remaining(&self, scope: &Scope) -> u16 {
        let machine = self.machine.iter();
        let generations = machine.flat_map(|machine| machine.generations());
        let over = generations.filter(|generation| generation.phase == Phase::Drained);
        let mut all = 0;
        for (at, process) in scope.procs.iter().enumerate() {
            let name = name(process.generation);
            let mut over = over.clone();
            if !self.procs[at].told && !over.any(|generation| generation.name == name) {
                all |= 1 << at;
            }
        }
        all
    }

    /// The processes that this agent has registered.
    pub(crate) fn members(&self) -> u16 {
        let mut all = 0;
        for (at, process) in self.procs.iter().enumerate() {
            if process.link == Link::Joined {
                all |= 1 << at;
            }
        }
        all
    }

    /// Those of some processes that the agent has answered and who have said that they are ready.
    pub(crate) fn known(&self, processes: u16) -> u16 {
        let mut all = 0;
        for (at, process) in self.procs.iter().enumerate() {
            if process.link == Link::Joined && process.said {
                all |= processes & 1 << at;
            }
        }
        all
    }
}
