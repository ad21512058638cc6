//! The control protocol: what servers and operators say to the agent, and how.
//!
//! A connection to the agent's unix socket carries frames in both directions. A frame is a header
//! ([`frame`]) and a JSON document: a [`Request`] with its id towards the agent, a [`Reply`] back,
//! which names the request that it answers unless it is an event. A [`Request::Register`] has the
//! listeners' descriptors attached (`SCM_RIGHTS`). The first request is [`Request::Hello`], and so
//! is the first reply: they agree on a version ([`VERSIONS`]) and on what both ends know
//! ([`FEATURES`]).
//!
//! Releases can be mixed: fields, events and replies that one end does not know are ignored,
//! requests that the agent does not know are refused and the connection lives on. What another
//! language needs to know of all that is in `PROTOCOL.md`.
//!
//! Nothing here decides anything: the agent does ([`ErrorCode`] lists what it may answer).

#![forbid(unsafe_code)]

mod client;
mod endpoint;
mod envelope;
mod error;
pub mod frame;
mod hello;
mod reply;
mod request;
mod socket;
mod status;
#[cfg(test)]
mod tests;

pub use client::{Client, Message};
pub use envelope::{Answer, Asked};
pub use error::{ErrorCode, Refusal, WireError};
pub use hello::{FEATURES, FIRST_WITH_HELLO, Hello, NoCommonVersion, VERSIONS, Versions, Welcome};
pub use reply::{Certificate, Committed, DrainEnd, DrainStep, Event, ListenerDrain, Reply};
pub use request::{ListenerSpec, Register, Request, Target};
pub use socket::{Received, receive, receive_into, send};
pub use status::{
    AgentStatus, EndpointStatus, GenerationStatus, HoldStatus, ListenerStatus, Phase, RelayStatus,
    ServiceStatus, Status, TimelineEntry,
};
pub use synflip_types::{Cookie, Endpoint, Epoch, InvalidName, Name, RequestId, Slot};

/// Where the agent listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/synflip/agent.sock";

/// Environment variable that names the agent's socket for the CLI and the helper.
pub const SOCKET_ENV: &str = "SYNFLIP_SOCKET";

/// Environment variable that names the generation for the helper.
pub const GENERATION_ENV: &str = "SYNFLIP_GENERATION";

/// Most descriptors in one message; the kernel's own bound is 253 (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 128;

/// Largest JSON document towards the agent, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// Largest JSON document from the agent, in bytes.
pub const MAX_REPLY: usize = 4 << 20;
