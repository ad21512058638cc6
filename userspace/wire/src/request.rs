//! What a peer can ask.

use serde::{Deserialize, Serialize};

use crate::{Cookie, Endpoint, Epoch, Hello, Name};

/// A message to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// The first one of a connection, and of it only.
    Hello(Hello),
    /// A server joins a generation with its listeners; their descriptors are attached in order.
    /// May be repeated on one connection to add listeners to the same generation.
    Register(Register),
    /// A running server that knows nothing of this joins a generation, and is ready. The first
    /// descriptor attached is the process (a pidfd), the others are its listeners in order.
    Adopt(Register),
    /// The server accepts connections now: its generation may be flipped to.
    Ready,
    /// The server has closed its listeners, or no longer accepts from them.
    Closed,
    /// Lent listeners had nothing queued any more, and are closed. There is no answer.
    Emptied {
        /// Their cookies, from [`crate::Reply::Queue`].
        cookies: Vec<Cookie>,
    },
    /// How many clients the server serves: connections that it has accepted and not closed. Said
    /// again when it has changed much, and when none is left. There is no answer.
    Serves {
        /// How many.
        clients: u64,
    },
    /// What is registered, working, draining.
    Status {
        /// Only this service.
        service: Option<Name>,
    },
    /// Makes another generation the working one.
    Flip {
        /// The service; may be left out while there is only one.
        service: Option<Name>,
        /// The generation to flip to.
        to: Target,
        /// Refuse unless the service is still at this epoch: what the operator saw last.
        if_epoch: Option<Epoch>,
        /// How long to wait for the old generation to drain, in milliseconds; 0 does not wait.
        drain_ms: u64,
        /// Keep the old generation open after it has drained, to roll back to, until it is
        /// retired.
        #[serde(default)]
        keep: bool,
        /// Endpoints that nobody is to accept at any more: the new generation lacks them.
        #[serde(default)]
        drop_endpoints: Vec<Endpoint>,
    },
    /// Gives a service back to plain SO_REUSEPORT: its servers go on, and nobody is steered.
    Release {
        /// The service; may be left out while there is only one.
        service: Option<Name>,
    },
    /// Forgets a generation that is not working and tells its servers to close.
    Retire {
        /// The service; may be left out while there is only one.
        service: Option<Name>,
        /// The generation.
        generation: Name,
        /// Do so even while connections are pending on it.
        #[serde(default)]
        force: bool,
    },
    /// One of a later release: it is refused.
    #[serde(other)]
    Unknown,
}

/// Listeners that join a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The service they belong to.
    pub service: Name,
    /// The generation; the agent numbers it (`gen1`, `gen2`, …) if left out.
    pub generation: Option<Name>,
    /// One entry per attached listener.
    pub listeners: Vec<ListenerSpec>,
}

/// What the peer claims of one listener; the agent checks it against the descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerSpec {
    /// The endpoint that it is bound to.
    pub endpoint: Endpoint,
}

/// Which generation a flip goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The one with this name.
    Generation(Name),
    /// The newest that is ready.
    Latest,
    /// The one that was working before.
    Previous,
}

impl From<Name> for Target {
    /// `latest` is a word of the command line, everything else a generation's name.
    fn from(name: Name) -> Self {
        if name.as_str() == "latest" {
            Self::Latest
        } else {
            Self::Generation(name)
        }
    }
}
