//! The agent's account of itself.

use serde::{Deserialize, Serialize};

use crate::{Endpoint, Epoch, Name, Slot};

/// The answer to a status request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent itself.
    pub agent: AgentStatus,
    /// Its services, by name.
    pub services: Vec<ServiceStatus>,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Whether a closing listener's requests migrate.
    pub migration: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: Name,
    /// Who may flip it, besides root.
    pub owner_uid: u32,
    /// The count of committed flips.
    pub epoch: Epoch,
    /// The generation that new connections go to.
    pub working: Option<Name>,
    /// The generation that a rollback goes to.
    pub previous: Option<Name>,
    /// Its endpoints, by number.
    pub endpoints: Vec<EndpointStatus>,
    /// Its generations, oldest first.
    pub generations: Vec<GenerationStatus>,
    /// Connections that the agent carries to a server which does not link the helper.
    #[serde(default)]
    pub relayed: RelayStatus,
    /// Nobody works: connections are held for a successor.
    #[serde(default)]
    pub hold: Option<HoldStatus>,
    /// What happened, oldest first; bounded.
    pub timeline: Vec<TimelineEntry>,
}

/// Connections that are carried for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayStatus {
    /// Now.
    pub open: u64,
    /// Since the service began, these included.
    pub total: u64,
}

/// The time for which connections wait in queues that nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When they are given up, in milliseconds since the Unix epoch.
    pub ends_at_ms: u64,
}

/// One endpoint: what its program did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The endpoint: `protocol` and `address`.
    #[serde(flatten, with = "crate::endpoint")]
    pub endpoint: Endpoint,
    /// How often the program ran; not the number of connections.
    pub runs: u64,
    /// Of these: found a listener of the published table.
    pub selected: u64,
    /// Of these: moved a request of a closed listener.
    pub migrated: u64,
    /// Of these: no table was published, the kernel's hash chose.
    pub no_table: u64,
    /// Of these: no slot could be selected, the kernel's hash chose. Should stay 0.
    pub fell_back: u64,
    /// Drained listeners kept open so that closing others loses no SYN.
    pub tombstones: u32,
    /// Whether somebody who is not registered has listeners in its reuseport group.
    #[serde(default)]
    pub strangers: bool,
}

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Has listeners, is not ready.
    Registered,
    /// May be flipped to.
    Ready,
    /// New connections go to it.
    Working,
    /// New connections go elsewhere; requests are still pending on it.
    Draining,
    /// Nothing is pending on it; its servers were told to say good-bye to the clients they serve.
    Leaving,
    /// Nothing is pending on it; it is kept for a rollback.
    Standby,
    /// Nothing is pending on it; its servers were told to close.
    Drained,
    /// A phase of a later release.
    #[serde(other)]
    Unknown,
}

impl Phase {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Ready => "ready",
            Self::Working => "working",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Standby => "standby",
            Self::Drained => "drained",
            Self::Unknown => "unknown",
        }
    }
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its name.
    pub name: Name,
    /// What it is doing.
    pub phase: Phase,
    /// Whether somebody accepts from it; none if the agent does not say.
    #[serde(default)]
    pub accepting: Option<bool>,
    /// Clients that it still serves, while it is leaving and as far as its servers say.
    #[serde(default)]
    pub in_service: Option<u64>,
    /// The processes that are registered and connected.
    pub pids: Vec<u32>,
    /// Its listeners, by slot.
    pub listeners: Vec<ListenerStatus>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its slot.
    pub slot: Slot,
    /// The endpoint that it is bound to: `protocol` and `address`.
    #[serde(flatten, with = "crate::endpoint")]
    pub endpoint: Endpoint,
    /// The processes that hold it, besides the agent.
    #[serde(default)]
    pub held_by: Vec<u32>,
    /// Whether the agent holds a duplicate.
    #[serde(default)]
    pub custody: bool,
    /// Whether nobody accepts from it, although a process holds it: it gets nothing while others do.
    #[serde(default)]
    pub stuck: bool,
    /// Connections in its accept queue; none if the kernel's table did not show it.
    pub queued: Option<u64>,
    /// Handshakes that have begun and not ended.
    pub half_open: Option<u64>,
    /// Times the program gave it a new connection.
    pub selected: u64,
    /// Times it stood in for a closed sibling.
    pub retried: u64,
    /// Requests of closed listeners moved to it.
    pub migrated: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// To which generation.
    pub generation: Name,
    /// What.
    pub what: String,
}
