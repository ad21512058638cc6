//! Bounds on what peers can make the agent hold.

use std::time::Duration;

/// Connections to the control socket at one time.
pub(crate) const CONNECTIONS: usize = 1024;

/// Services.
pub(crate) const SERVICES: usize = 64;

/// Services of one user who is not root.
pub(crate) const SERVICES_OF_UID: usize = 16;

/// Generations of a service at one time, those included that are still closing.
pub(crate) const GENERATIONS: usize = 64;

/// Messages that may wait for a peer that does not read them; one more ends the connection.
pub(crate) const OUTBOX: usize = 256;

/// How long a peer may take to say something, or to finish what it began to say.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Entries of a service's timeline.
pub(crate) const TIMELINE: usize = synflip_abi::MAX_MOMENTS as usize;

/// Connections to the metrics address at one time.
pub(crate) const SCRAPES: usize = 16;
