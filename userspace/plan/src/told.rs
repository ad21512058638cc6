//! What peers are told, and the timeline.

use synflip_types::{Endpoint, EndpointId, Epoch, GenerationId, Name};

use crate::PlanError;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The listeners are registered for this generation.
    Registered {
        /// Its name.
        generation: Name,
    },
    /// Done.
    Done,
    /// Refused or failed; nothing has changed.
    Refused(PlanError),
    /// A flip has committed.
    Committed(Flip),
    /// The drain that is waited for goes on.
    Draining {
        /// The generation that drains.
        generation: GenerationId,
    },
    /// The wait is over.
    DrainOver {
        /// The generation that was drained; none if there was nobody to flip away from.
        generation: Option<GenerationId>,
        /// How it ended.
        end: DrainEnd,
    },
}

/// A change of the working generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flip {
    /// The generation that was working.
    pub from: Option<GenerationId>,
    /// The one that will be.
    pub to: GenerationId,
    /// The count of flips once this one has committed.
    pub epoch: Epoch,
    /// Listeners that new connections go to.
    pub listeners: usize,
}

/// How the wait for a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrainEnd {
    /// Nothing is pending; the old generation's servers are told to close.
    Drained,
    /// Nothing is pending; the old generation stays open for a rollback.
    Standby,
    /// Something is still pending. Nothing was closed, and the drain goes on.
    DeadlinePassed,
    /// It goes on serving endpoints that the new one lacks, and drains once somebody else does.
    Serving,
    /// The old generation works again, or was retired.
    Superseded,
}

/// What a server is told about its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// New connections come to it.
    Working,
    /// They go to another one now.
    Draining,
    /// Nothing is pending, nothing will come: say good-bye to the clients.
    Leaving,
    /// Nothing is pending, nothing will come; it is kept for a rollback.
    Standby,
    /// Nothing is pending, nothing will come: close.
    Drained,
    /// Retired by an operator: close, whatever is pending.
    Retired,
    /// Nobody is steered any more: serve on, and do not register again.
    Released,
}

/// What is put into the log and the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Happened {
    /// A process has registered listeners.
    Registered {
        /// How many.
        listeners: usize,
    },
    /// A process has come back to its listeners.
    Back {
        /// How many.
        listeners: usize,
    },
    /// It can be flipped to.
    Ready,
    /// A process has closed its listeners.
    Closed,
    /// A process has ended.
    Died,
    /// A process has ended, and others accept from listeners that they share with it.
    Outlived {
        /// How many.
        listeners: usize,
    },
    /// Its processes have closed listeners without saying so.
    Abandoned {
        /// How many.
        listeners: usize,
    },
    /// Nobody accepts from one of its listeners, although a process holds it: what is queued there
    /// is lent to others.
    Stuck {
        /// Where it listens.
        endpoint: Endpoint,
    },
    /// The same listener is accepted from again.
    AcceptsAgain {
        /// Where it listens.
        endpoint: Endpoint,
    },
    /// New connections go to it.
    Working {
        /// Since this flip.
        epoch: Epoch,
    },
    /// It has nobody at an endpoint, whose connections go where they went before.
    Lacks {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Its table has changed.
    Refreshed {
        /// Listeners that it works with now.
        listeners: usize,
    },
    /// New connections go to another one.
    Draining {
        /// Connections in accept queues at the commit.
        queued: u64,
        /// Handshakes that had begun.
        half_open: u64,
    },
    /// The program was replaced or taken away: it was seen to be, or connections have come to a
    /// listener that no table names.
    ProgramGone,
    /// Nothing is pending on it.
    Drained {
        /// Whether it stays open for a rollback.
        kept: bool,
        /// Milliseconds after the commit, or after this agent took it up.
        after_ms: u64,
    },
    /// The last client that it served is gone.
    ClientsGone,
    /// A peer no longer waits for the drain.
    DeadlinePassed {
        /// Connections in accept queues.
        queued: u64,
        /// Handshakes that have begun.
        half_open: u64,
    },
    /// An operator has retired it.
    Retired {
        /// Whatever was pending.
        force: bool,
    },
    /// An operator has given the service back to plain SO_REUSEPORT.
    Released,
    /// A table was not published.
    NotPublished {
        /// Why.
        why: String,
    },
    /// Somebody who is not registered has listeners in its reuseport group.
    Strangers {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Nobody accepts at an endpoint; its listeners are held open.
    Held {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Nobody came in time: its listeners are closed.
    GivenUp {
        /// The endpoint.
        endpoint: EndpointId,
    },
}
