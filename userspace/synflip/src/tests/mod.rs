//! Servers against an agent that a test plays.

mod agent;
mod loans;
mod reconnect;
#[cfg(feature = "tokio")]
mod tasks;
mod threads;
mod versions;
