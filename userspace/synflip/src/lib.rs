//! Links a TCP server to the synflip agent, so that it can be replaced by its next version without
//! losing a connection.
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = synflip::Server::builder("web").listen("[::]:8080".parse()?, 4).start()?;
//!     for listener in server.listeners() {
//!         std::thread::spawn(move || {
//!             for connection in listener.incoming() {
//!                 // … serve it; the loop ends by itself when the generation is drained
//! #               drop(connection);
//!             }
//!         });
//!     }
//!     server.ready()?; // from here on the generation may be flipped to
//!     server.join(); // drained, and the agent knows that the listeners are closed
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//! - opens SO_REUSEPORT listeners and registers them with the agent, which keeps a duplicate of
//!   each: what is queued on them survives the process;
//! - tells the agent when the server is ready, and the server what its generation is doing
//!   ([`Phase`], [`Events`]);
//! - ends the accept loops when nothing is pending on the listeners and nothing will come, closes
//!   them and reports that;
//! - connects again when the agent has been away. The server goes on serving meanwhile, and the
//!   kernel goes on steering;
//! - without an agent, runs as a plain SO_REUSEPORT server ([`Mode`]).
//!
//! # What it does not do
//! - start, stop or replace processes: a supervisor starts the next version, `synflip flip` makes
//!   it the working one, and the old one ends by itself;
//! - end accepted connections: when [`Phase::Draining`] is entered, tell clients to reconnect
//!   (`Connection: close`, GOAWAY), and before the process exits, wait for the last of them;
//! - anything privileged. No BPF is in here.
//!
//! # In which order
//! 1. [`Builder::start`]: the listeners exist, but get nothing while another generation works.
//! 2. Whatever a request needs, and the accept loops.
//! 3. [`Server::ready`].
//! 4. Accept until the loop ends. A server that stops earlier, because it is told to drain for
//!    example, makes the agent rescue what is in its queues.
//! 5. Drop each [`Listener`]; then [`Server::join`].
//!
//! The feature `tokio` adds a module of that name: the same for tasks.

#![forbid(unsafe_code)]

mod builder;
mod error;
mod listener;
mod loans;
mod phase;
mod server;
mod session;
mod shared;
mod socket;
#[cfg(test)]
mod tests;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use builder::{Builder, Mode};
pub use error::Error;
pub use listener::{Incoming, Listener};
pub use phase::{Events, Phase};
pub use server::Server;
pub use synflip_wire::{ErrorCode, InvalidName, Refusal, WireError};
