use serde::{Deserialize, Serialize};

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Outcome {
    /// The whole answer arrived.
    Ok = 0,
    /// The SYN was answered by a reset: nobody listened.
    Refused = 1,
    /// Cut off after the handshake and before the whole answer had arrived.
    Reset = 2,
    /// No handshake in time.
    ConnectTimeout = 3,
    /// A handshake, but no whole answer in time.
    Stalled = 4,
}

impl Outcome {
    /// Every outcome, at the index of its number.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Reset,
        Self::ConnectTimeout,
        Self::Stalled,
    ];

    /// The outcome with this number in a file of samples.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether the client has its answer.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}
