//! The relay: a process without privileges that carries the bytes of connections which nobody is
//! left to accept, for servers that cannot be handed any.
//!
//! The agent accepts such a connection, opens a socket for the way to the server, and gives both
//! to this process ([`Line`], [`Order`]). From then on the connection does not need the agent: the
//! process connects to the address that the client asked for, which the BPF program steers to the
//! working generation, and copies both ways until both ends are done. It tells each agent that
//! connects to it what it carries ([`Report`]), and ends when it carries nothing and no agent has
//! been connected for [`LINGER`].
//!
//! What it does not do: it binds nothing, opens no socket to the network, reads no file, and knows
//! of no BPF. All that it works with comes through the one socket that it is started with.

mod carrier;
mod copy;
mod line;
mod message;
mod privileges;
mod sys;
mod tally;

use std::time::Duration;

pub use carrier::{RelayError, run};
pub use line::Line;
pub use message::{Counts, Hello, Order, Report};

/// Version of the messages. An agent leaves a process of another version alone, and starts one of
/// its own beside it.
pub const VERSION: u16 = 1;

/// Connections that are carried at one time, if the process may have the descriptors.
pub const PLACES: u64 = 1024;

/// How long the process waits for an agent when it carries nothing.
pub const LINGER: Duration = Duration::from_secs(5);
