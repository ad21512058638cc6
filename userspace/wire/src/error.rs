//! What can go wrong between a peer and the agent.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::{MAX_FDS, VERSION};

/// Why the agent refused. Stable: programs match on it, people read [`Refusal::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The message could not be understood, or does not fit what was said before.
    BadMessage,
    /// Another version of the protocol.
    VersionMismatch,
    /// One of the agent's bounds is reached.
    LimitReached,
    /// The peer's uid may not do this.
    NotAllowed,
    /// A descriptor is not a listener that can be steered.
    BadListener,
    /// No service has that name.
    NoSuchService,
    /// There are several services: name one.
    AmbiguousService,
    /// The service has no generation of that name.
    NoSuchGeneration,
    /// The generation is not ready, or no longer has a server.
    NotReady,
    /// The generation is working already.
    AlreadyWorking,
    /// Another flip of the service is being committed.
    FlipInProgress,
    /// Another flip has committed since the caller looked.
    EpochMoved,
    /// The generation lacks an endpoint that the working one serves.
    EndpointMissing,
    /// There is no generation to roll back to.
    NoPrevious,
    /// The generation is working, and cannot be retired.
    StillWorking,
    /// Connections are pending on the generation.
    StillDraining,
    /// The generation can no longer be joined.
    GenerationClosed,
    /// The kernel refused; nothing changed.
    Kernel,
}

/// A refusal: the thing, the cause and the cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// A failure of the connection itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The other end closed the connection.
    #[error("the other end closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("{op} the control socket failed")]
    Io {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The other end speaks another version.
    #[error("the other end speaks protocol version {theirs}, this one {VERSION}")]
    Version {
        /// Their version.
        theirs: u16,
    },
    /// A frame announces more than is allowed.
    #[error("a message of {length} bytes is over the bound of {max}")]
    TooLarge {
        /// Announced length.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// More descriptors than are allowed, or than were announced.
    #[error("{fds} descriptors came with a message that announced {announced} (at most {MAX_FDS})")]
    Descriptors {
        /// Descriptors that came, or more.
        fds: usize,
        /// Descriptors that the header announced.
        announced: usize,
    },
    /// The document is not what was expected.
    #[error("the message is not understood")]
    Malformed(#[source] serde_json::Error),
    /// Nothing came in time.
    #[error("no answer came in time")]
    TimedOut,
}
