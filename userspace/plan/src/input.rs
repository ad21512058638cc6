//! What the machine is told.

use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, Name, RequestId, Slot};

use crate::Pending;

/// A process as the agent knows it: a connection to the control socket, or one that is followed
/// without: adopted, or left by an earlier agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// Who asked, and for what: an answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// The peer.
    pub process: ProcessId,
    /// Its request.
    pub request: RequestId,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A process joins a generation with listeners that have passed inspection.
    Join(Join),
    /// A process accepts connections now.
    Ready {
        /// Who.
        by: Asker,
    },
    /// A process no longer accepts for this service: it has said so, its connection has ended, or
    /// the process that was adopted, or that an earlier agent has noted, is known to have ended.
    Left {
        /// The process.
        process: ProcessId,
        /// How.
        how: Departure,
    },
    /// A process that was followed has ended, and others have some of its listeners: its children
    /// go on accepting from what they share with it.
    Outlived {
        /// The process.
        process: ProcessId,
        /// The listeners that somebody besides the agent has.
        open: Vec<Slot>,
    },
    /// A process has found nothing queued any more on listeners that it was lent, and has closed
    /// them.
    Emptied {
        /// The process.
        process: ProcessId,
        /// The listeners.
        listeners: Vec<Cookie>,
    },
    /// A process says how many clients it serves.
    Serves {
        /// The process.
        process: ProcessId,
        /// Connections that it has accepted and not closed.
        clients: u64,
    },
    /// An operator asks for a flip.
    Flip(FlipRequest),
    /// An operator asks for a generation to be forgotten.
    Retire {
        /// Who asks.
        by: Asker,
        /// The generation.
        generation: Name,
        /// Even while connections are pending on it.
        force: bool,
    },
    /// An operator wants the service to be steered no more.
    Release {
        /// Who asks.
        by: Asker,
    },
    /// The kernel has refused to take a listener into its slot.
    NotFilled {
        /// The slot.
        slot: Slot,
        /// Why.
        why: String,
    },
    /// The programs have been put on the groups, or the kernel has refused one. A refusal in the
    /// middle of a drain comes before the readings that were to follow it.
    Attached {
        /// The registration that waits for it.
        join: Option<ProcessId>,
        /// Why not.
        result: Result<(), String>,
    },
    /// The programs follow the table that was to be published, or it was refused.
    Published(Result<(), NotPublished>),
    /// What is pending on the listeners that were to be read: those that share an endpoint in the
    /// order of their hash bucket, in which a lookup meets them ([`inet_lhash2_lookup`]). One that
    /// is left out counts as [`Reading::Unknown`].
    ///
    /// [`inet_lhash2_lookup`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_hashtables.c
    Readings(Vec<(Slot, Reading)>),
    /// A duplicate has been taken from a process.
    Fetched {
        /// The slot.
        slot: Slot,
    },
    /// Something has happened to the reuseport group of an endpoint: listeners that are nobody's
    /// have come or gone, or connections have come past the program (a listener in custody that
    /// nobody serves has become readable). Whoever is in the group may
    /// have replaced it or taken it away.
    Strangers {
        /// The endpoint.
        endpoint: EndpointId,
        /// Whether there are any.
        present: bool,
    },
    /// Nobody has these listeners any more but the agent: whoever held them has closed them, and
    /// lives.
    Abandoned {
        /// The slots.
        slots: Vec<Slot>,
        /// How many descriptors registrations had brought when that was seen: so many
        /// [`crate::Effect::Fill`] and [`crate::Effect::Keep`] had been carried out.
        brought: u64,
    },
    /// The program was seen to be off a group, or another one in its place.
    ProgramGone,
    /// The same connections have headed these listeners' accept queues for a second. It is said
    /// each second while it lasts.
    Waiting(Vec<Waiting>),
    /// The accept queue of a listener is empty that has been given a connection
    /// ([`crate::Effect::Probe`]), or that nobody can be lent.
    AcceptsAgain {
        /// The slot.
        slot: Slot,
        /// How many connections it had been given before it was looked at.
        probes: u32,
    },
    /// A listener could not be given a connection.
    NotProbed {
        /// The slot.
        slot: Slot,
    },
    /// Time has passed.
    Time,
}

/// A listener with a connection in its queue that nobody accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The slot.
    pub slot: Slot,
    /// How many connections are in the queue.
    pub queued: u32,
    /// Whether another listener of its endpoint has been accepted from meanwhile.
    pub beside: bool,
    /// Whether it is in non-blocking mode: a process that accepts by calls that wait would see them
    /// fail if somebody who is lent its listener had to change that.
    pub lendable: bool,
}

/// A process that joins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Join {
    /// The process, and its request.
    pub by: Asker,
    /// Who is to get the answer, if it is not the process itself: whoever has it adopted.
    pub answer: Asker,
    /// The generation; without a name it founds one.
    pub name: Option<Name>,
    /// Its listeners.
    pub listeners: Vec<(Endpoint, Cookie)>,
    /// Whether it can be told and lent anything. One that cannot was adopted: it accepts already.
    pub talks: bool,
}

/// An operator's flip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlipRequest {
    /// Who asks.
    pub by: Asker,
    /// Where to.
    pub target: Target,
    /// Refused unless the service is still at this epoch.
    pub if_epoch: Option<Epoch>,
    /// How long the peer waits for the drain, in milliseconds; 0 if it does not.
    pub drain_ms: u64,
    /// Whether the old generation stays open for a rollback.
    pub keep: bool,
    /// Endpoints that nobody is to accept at any more.
    pub drop: Vec<Endpoint>,
}

/// Which generation a flip goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one with this name.
    Named(Name),
    /// The newest that can take connections.
    Latest,
    /// The one that was working before.
    Previous,
}

/// How a process left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Departure {
    /// It has closed its listeners.
    Closed,
    /// It has ended, or its connection has.
    Died,
}

/// Why a table was not published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NotPublished {
    /// The slot whose listener is gone, if that is why.
    pub gone: Option<Slot>,
    /// Why, for people.
    pub why: String,
}

/// What a look at a listener has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// So much is pending on it.
    Pending(Pending),
    /// It was shut down: it does not listen any more, and nothing is pending on it.
    Stopped,
    /// It is in the agent's custody no more than in its slot: it is closed.
    Gone,
    /// It could not be seen.
    Unknown,
}

impl Reading {
    /// Whether nothing at all is pending.
    pub const fn is_empty(self) -> bool {
        match self {
            Self::Pending(pending) => pending.is_empty(),
            Self::Stopped | Self::Gone => true,
            Self::Unknown => false,
        }
    }

    /// Connections in the accept queue, as far as is known.
    pub const fn queued(self) -> u32 {
        match self {
            Self::Pending(pending) => pending.queued,
            _ => 0,
        }
    }

    /// Handshakes that have begun, as far as is known.
    pub const fn half_open(self) -> u32 {
        match self {
            Self::Pending(pending) => pending.half_open(),
            _ => 0,
        }
    }
}
