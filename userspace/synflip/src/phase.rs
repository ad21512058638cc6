//! What the generation is doing, and who hears of it.

use std::{
    fmt,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use synflip_wire::Event;

use crate::shared::Shared;

/// What a server's generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// No agent has been reached, or it has released the service: a plain SO_REUSEPORT server.
    Plain,
    /// The agent knows the listeners; the generation is not ready.
    Registered,
    /// The generation may be flipped to.
    Ready,
    /// New connections come here.
    Working,
    /// New connections go to another generation. Those that were half-open or queued still come:
    /// keep accepting, and let clients with long connections know that they should reconnect.
    Draining,
    /// Nothing is pending, but the server has said that it serves clients
    /// ([`crate::Server::serves`]): they are to be told good-bye. Answer what they have asked, and
    /// close (in HTTP/1, `Connection: close`); keep accepting. [`Phase::Drained`] follows when none
    /// is left.
    Leaving,
    /// Nothing is pending, and the generation is kept for a rollback: keep accepting.
    /// [`Phase::Working`] may follow.
    Standby,
    /// Nothing is pending and nothing will come. The accept loops have ended or are about to.
    Drained,
    /// Retired by an operator, or stopped by [`crate::Server::stop`]. The accept loops have ended
    /// or are about to.
    Retired,
}

impl Phase {
    /// Whether it is the last one: the accept loops end and no phase follows.
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Drained | Self::Retired)
    }

    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Registered => "registered",
            Self::Ready => "ready",
            Self::Working => "working",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Standby => "standby",
            Self::Drained => "drained",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the generation is doing after an event; nothing if this version does not know the event.
pub(crate) const fn after(event: Event) -> Option<Phase> {
    match event {
        Event::Working => Some(Phase::Working),
        Event::Draining => Some(Phase::Draining),
        Event::Leaving => Some(Phase::Leaving),
        Event::Standby => Some(Phase::Standby),
        Event::Drained => Some(Phase::Drained),
        Event::Retired => Some(Phase::Retired),
        _ => None,
    }
}

/// The phases of a server from now on; from [`crate::Server::events`].
///
/// A slow reader sees the latest phase, not each one on the way. The iterator ends after the last
/// phase, or when the server is gone. It keeps nothing alive.
#[derive(Debug)]
pub struct Events {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seen: Phase,
}

impl Events {
    /// Waits for the next phase, at most `timeout`.
    ///
    /// # Errors
    /// `Timeout` if the phase is still the one seen last, `Disconnected` after the last one.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Phase, RecvTimeoutError> {
        // Far enough not to matter, near enough for the addition.
        let timeout = timeout.min(Duration::from_secs(u64::from(u32::MAX)));
        match self
            .shared
            .wait_phase(self.seen, Some(Instant::now() + timeout))
        {
            Ok(Some(phase)) => {
                self.seen = phase;
                Ok(phase)
            }
            Ok(None) => Err(RecvTimeoutError::Disconnected),
            Err(_) => Err(RecvTimeoutError::Timeout),
        }
    }
}

impl Iterator for Events {
    type Item = Phase;

    /// Waits for the next phase, for as long as it takes.
    fn next(&mut self) -> Option<Phase> {
        let phase = self.shared.wait_phase(self.seen, None).ok()??;
        self.seen = phase;
        Some(phase)
    }
}
