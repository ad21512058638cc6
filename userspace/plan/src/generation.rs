//! Generations and their listeners.

use crate::Slot;

/// A generation's number within its service, from 1; later ones have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u32);

/// A server process, as the agent knows it: one connection to the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// The process of a listener that an earlier agent has left, until it comes back.
    pub const ABSENT: Self = Self(0);
}

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Has listeners; none of its processes is ready.
    Registered,
    /// May be flipped to.
    Ready,
    /// New connections go to it.
    Working,
    /// They went to it, and requests may be pending on it.
    Draining,
    /// Nothing is pending on it; it is kept for a rollback.
    Standby,
    /// Nothing is pending on it; its servers are told to close.
    Drained,
}

/// One listener of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its slot.
    pub slot: Slot,
    /// The endpoint that it is bound to.
    pub endpoint: u32,
    /// Its socket cookie.
    pub cookie: u64,
    /// The process that registered it.
    pub process: ProcessId,
    /// Whether that process has said ready.
    pub ready: bool,
    /// Whether that process still accepts from it.
    pub served: bool,
}

/// One run of the server: a process or several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub phase: Phase,
    /// Its listeners, in the order they were registered.
    pub members: Vec<Member>,
}

impl Generation {
    /// The slots of an endpoint that new connections may go to.
    pub fn eligible(&self, endpoint: u32) -> Vec<Slot> {
        self.members
            .iter()
            .filter(|member| member.endpoint == endpoint && member.ready && member.served)
            .map(|member| member.slot)
            .collect()
    }

    /// Whether any process still accepts for it.
    pub fn is_served(&self) -> bool {
        self.members.iter().any(|member| member.served)
    }

    /// Whether a flip to it is allowed.
    pub(crate) fn can_work(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Draining | Phase::Standby)
            && self
                .members
                .iter()
                .any(|member| member.ready && member.served)
    }
}
