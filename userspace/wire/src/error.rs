//! What can go wrong between a peer and the agent.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use synflip_types::RequestId;

use crate::{FIRST_WITH_HELLO, MAX_FDS, VERSIONS, frame::FORMAT};

/// Why the agent refused. Stable: programs match on it, people read [`Refusal::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The message could not be understood, or does not fit what was said before.
    BadMessage,
    /// The agent does not know that request; the connection goes on.
    UnknownRequest,
    /// There is no version of the protocol that both ends speak.
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
    /// A code of a later release: [`Refusal::text`] says what it means.
    #[serde(other)]
    Unknown,
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
    /// There is no agent at the socket, or this user may not use it.
    #[error("connecting to the control socket failed")]
    Connect(#[source] io::Error),
    /// The other end sends frames of another format, or no frames.
    #[error("the other end sends frames of version {theirs}, this one reads {FORMAT}")]
    Format {
        /// Their version.
        theirs: u16,
    },
    /// The agent is of a release that has no hello.
    #[error(
        "the agent is of a release before {FIRST_WITH_HELLO}, which speaks version 1 of the control \
         protocol, and this program speaks {VERSIONS}: upgrade the agent and restart it, its services \
         go on meanwhile"
    )]
    OldAgent,
    /// There is no version of the protocol that both speak.
    #[error("the agent does not speak {VERSIONS} of the control protocol, as this program does")]
    Version(#[source] Refusal),
    /// The agent has refused the connection.
    #[error("the agent has refused the connection")]
    Refused(#[source] Refusal),
    /// The agent's answer to the hello is none.
    #[error("the agent did not answer the hello as it has to")]
    NoHello,
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
    Malformed {
        /// The request that it is or answers, if that could be read.
        id: Option<RequestId>,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing came in time.
    #[error("no answer came in time")]
    TimedOut,
}

impl WireError {
    /// The same of the message with that id.
    pub(crate) fn of(self, id: RequestId) -> Self {
        match self {
            Self::Malformed { source, .. } => Self::Malformed {
                id: Some(id),
                source,
            },
            other => other,
        }
    }

    /// Whether the two ends speak no common version: trying again changes nothing until one of
    /// them is upgraded.
    pub const fn is_version(&self) -> bool {
        matches!(self, Self::OldAgent | Self::Version(_))
    }
}
