//! Generations, their listeners, and the processes that hold them.

use std::collections::{BTreeMap, BTreeSet};

use synflip_types::{Cookie, EndpointId, GenerationId, Name};

use crate::{Moment, NoteState, ProcessId, Stuck};

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Has listeners; none of its processes is ready.
    Registered,
    /// May be flipped to.
    Ready,
    /// New connections go to it.
    Working,
    /// They went to it, and requests may be pending on it.
    Draining,
    /// Nothing is pending on it, but its processes serve clients still: they were told to say
    /// good-bye to them.
    Leaving,
    /// Nothing is pending on it; it is kept for a rollback.
    Standby,
    /// Nothing is pending on it; its servers are told to close.
    Drained,
}

/// One run of the server: a process or several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// Its name.
    pub name: Name,
    /// What it is doing.
    pub phase: Phase,
    /// What is noted of its listeners once it has been flipped away from, or retired.
    pub(crate) departure: Option<NoteState>,
}

/// One listener: who has it, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Where it listens.
    pub endpoint: EndpointId,
    /// Its socket cookie.
    pub cookie: Cookie,
    /// Its generation.
    pub generation: GenerationId,
    /// The processes that accept from it, and whether each has said that it is ready.
    pub holders: BTreeMap<ProcessId, Ready>,
    /// Whether the agent has a duplicate.
    pub custody: bool,
    /// What it is for.
    pub role: Role,
    /// Whether it does not listen any more: it was shut down, whoever has it.
    pub stopped: bool,
    /// Whether nobody accepts from it although a process that holds it lives, and what is known
    /// of that.
    pub stuck: Option<Stuck>,
    /// How many connections of the agent's own it was to be given.
    pub probes: u32,
    /// Whether it is closed whatever is pending on it.
    pub forced: bool,
    /// Who has been lent it, and has not given it back.
    pub lent: BTreeSet<ProcessId>,
}

/// Whether a process has said that it is ready.
pub type Ready = bool;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its registration is being carried out.
    Joining,
    /// It is its generation's.
    Member,
    /// It stays open only because it is the first of its hash bucket.
    Tombstone,
}

impl Listener {
    /// Whether a process that is ready accepts from it.
    pub fn accepts(&self) -> bool {
        self.role == Role::Member && !self.stopped && self.holders.values().any(|ready| *ready)
    }

    /// Whether any process holds it, ready or not.
    pub fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Whether some process holds it, known or not: one that is open and not in custody is held by
    /// somebody whom the earlier agent did not note.
    pub(crate) fn is_anybodys(&self) -> bool {
        self.is_held() || (!self.custody && !self.stopped)
    }
}

/// A process that holds listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its generation.
    pub generation: GenerationId,
    /// How it is known.
    pub link: Link,
    /// Whether it is certain to be told when it ends.
    pub lives: bool,
    /// Until when one that is absent is expected to connect again. From then on, if it is known to
    /// live, it is treated as one that was adopted: it cannot be told anything, and is followed
    /// until it ends.
    pub expected_until: Option<Moment>,
    /// How many clients it serves, as far as it has said.
    pub clients: u64,
}

/// How a process is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// It is connected to the control socket: it can be told things, and lent listeners.
    Connected,
    /// It has been adopted: it knows nothing of this, and is followed until it ends.
    Adopted,
    /// An earlier agent knew it; it may connect again.
    Absent,
}
