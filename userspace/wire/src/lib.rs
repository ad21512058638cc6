//! The control protocol: what servers and operators say to the agent, and how.
//!
//! A connection to the agent's unix socket carries frames in both directions. A frame is a header
//! ([`frame`]) and a JSON document ([`Request`] towards the agent, [`Reply`] back); a
//! [`Request::Register`] has the listeners' descriptors attached (`SCM_RIGHTS`).
//!
//! Nothing here decides anything: the agent does ([`ErrorCode`] lists what it may answer).

#![forbid(unsafe_code)]

mod client;
mod error;
pub mod frame;
mod reply;
mod request;
mod socket;
mod status;

pub use client::Client;
pub use error::{ErrorCode, Refusal, WireError};
pub use reply::{Certificate, Committed, DrainEnd, DrainStep, Event, ListenerDrain, Reply};
pub use request::{ListenerSpec, Register, Request, Target};
pub use socket::{Received, receive, send};
pub use status::{
    AgentStatus, EndpointStatus, GenerationStatus, ListenerStatus, Phase, RelayStatus,
    ServiceStatus, Status, TimelineEntry,
};
pub use synflip_types::{InvalidName, Name};

/// Version of the messages; the agent refuses a peer that speaks another one.
pub const VERSION: u16 = 1;

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
