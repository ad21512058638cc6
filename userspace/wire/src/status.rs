//! The agent's account of itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Name;

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
    pub epoch: u64,
    /// The generation that new connections go to.
    pub working: Option<Name>,
    /// The generation that a rollback goes to.
    pub previous: Option<Name>,
    /// Its endpoints, by number.
    pub endpoints: Vec<EndpointStatus>,
    /// Its generations, oldest first.
    pub generations: Vec<GenerationStatus>,
    /// What happened, oldest first; bounded.
    pub timeline: Vec<TimelineEntry>,
    /// What is carried by the relay process.
    #[serde(default)]
    pub relayed: RelayStatus,
}

/// Connections that were left on a listener which nobody accepts from, for servers that cannot be
/// handed any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Being carried.
    pub open: u64,
    /// In all, the open ones included.
    pub total: u64,
}

/// One endpoint: what its program did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The local address.
    pub address: SocketAddr,
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
}

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Has listeners, is not ready.
    Registered,
    /// May be flipped to.
    Ready,
    /// New connections go to it.
    Working,
    /// New connections go elsewhere; requests are still pending on it.
    Draining,
    /// Nothing is pending on it; it is kept for a rollback.
    Standby,
    /// Nothing is pending on it; its servers were told to close.
    Drained,
}

impl Phase {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Ready => "ready",
            Self::Working => "working",
            Self::Draining => "draining",
            Self::Standby => "standby",
            Self::Drained => "drained",
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
    /// The processes that are registered and connected.
    pub pids: Vec<u32>,
    /// Its listeners, by slot.
    pub listeners: Vec<ListenerStatus>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its slot.
    pub slot: u32,
    /// The address it is bound to.
    pub address: SocketAddr,
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
