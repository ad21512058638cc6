//! What the agent answers.

use serde::{Deserialize, Serialize};

use crate::{Cookie, Endpoint, Epoch, Name, Refusal, Slot, Status, Welcome};

/// A message from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reply {
    /// The answer to [`crate::Request::Hello`].
    Hello(Welcome),
    /// The listeners are registered.
    Registered {
        /// The service.
        service: Name,
        /// The generation, named by the agent if the server did not.
        generation: Name,
    },
    /// Done, with nothing more to say.
    Done,
    /// The answer to [`crate::Request::Status`].
    Status(Status),
    /// A flip has committed; if it waits, progress and a certificate follow.
    Committed(Committed),
    /// The state of a drain that is being waited for.
    Draining(DrainStep),
    /// The wait for the old generation is over; [`Certificate::end`] says how.
    Drained(Certificate),
    /// Refused or failed; nothing changed.
    Refused(Refusal),
    /// To a registered server: what happened to its generation.
    Event(Event),
    /// To a registered server: another one has left connections in its queue. Its listener is
    /// attached, in non-blocking mode: accept from it until nothing is queued any more, close it,
    /// and say [`crate::Request::Emptied`]. If more comes, it is lent again.
    Queue {
        /// The endpoint that it is bound to.
        endpoint: Endpoint,
        /// Which one it is.
        cookie: Cookie,
    },
    /// One of a later release: whoever gets it goes on.
    #[serde(other)]
    Unknown,
}

/// What a server is told about its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// New connections come to this generation.
    Working,
    /// They go to another one now. Keep accepting: what was half-open or queued still comes.
    Draining,
    /// Nothing is pending, but clients are being served: tell them good-bye, and keep accepting.
    Leaving,
    /// Nothing is pending and nothing will come. Still open, in case of a rollback.
    Standby,
    /// Nothing is pending and nothing will come: close the listeners and say `closed`.
    Drained,
    /// Retired by an operator: close the listeners, whatever is pending.
    Retired,
    /// Nobody is steered any more: serve on as without an agent, and do not register again.
    Released,
    /// One of a later release: whoever gets it goes on.
    #[serde(other)]
    Unknown,
}

/// A flip that has committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// The service.
    pub service: Name,
    /// The generation that was working, if there was one.
    pub from: Option<Name>,
    /// The generation that is working now.
    pub to: Name,
    /// The count of committed flips, this one included.
    pub epoch: Epoch,
    /// Listeners that new connections go to.
    pub listeners: usize,
    /// How long the kernel took to swap the table and wait for a grace period, in milliseconds.
    pub commit_ms: f64,
    /// When it committed, in milliseconds since the Unix epoch.
    pub committed_at_ms: u64,
    /// Endpoints at which the new generation has nobody: connections go where they went before.
    #[serde(default)]
    pub lacks: Vec<Endpoint>,
}

/// Requests pending on a listener, or on all of a generation's, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStep {
    /// Milliseconds since the commit.
    pub after_ms: u64,
    /// Connections in the accept queue.
    pub queued: u64,
    /// Handshakes that have begun and not ended (`SYN_RECV`, or TCP Fast Open).
    pub half_open: u64,
}

impl DrainStep {
    /// Whether nothing is pending.
    pub const fn is_empty(&self) -> bool {
        self.queued == 0 && self.half_open == 0
    }
}

/// How the wait for a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DrainEnd {
    /// Nothing is pending; the old generation's servers were told to close.
    Drained,
    /// Nothing is pending; the old generation stays open for a rollback.
    Standby,
    /// Something is still pending. Nothing was closed, and the agent goes on with the drain.
    DeadlinePassed,
    /// Another flip has made the old generation work again.
    Superseded,
    /// The old generation goes on serving endpoints that the new one lacks.
    Serving,
    /// A way of a later release.
    #[serde(other)]
    Unknown,
}

/// How an old generation's listeners became empty, or what is left on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The flip that this belongs to.
    pub flip: Committed,
    /// How the wait ended.
    pub end: DrainEnd,
    /// Milliseconds from the commit until all were empty; none while some are not.
    pub drained_after_ms: Option<u64>,
    /// Each old listener.
    pub listeners: Vec<ListenerDrain>,
}

/// How one listener became empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerDrain {
    /// Its slot.
    pub slot: Slot,
    /// The endpoint that it is bound to.
    #[serde(flatten, with = "crate::endpoint")]
    pub endpoint: Endpoint,
    /// What was pending, from the commit on, at each reading that differed from the one before
    /// (of a long drain: the first ones and the last).
    pub steps: Vec<DrainStep>,
    /// Milliseconds from the commit until `refcnt == 1` was read; none while it is not.
    pub empty_after_ms: Option<u64>,
}
