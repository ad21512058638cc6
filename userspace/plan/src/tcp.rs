//! What is TCP's own: all that another protocol would have to answer for itself.
//!
//! - *What is pending on a listener, and is that nothing?* [`Pending`]: half-open and queued
//!   requests hold references on a listener. (A UDP socket has a receive queue, and flows that only
//!   its server or a flow table knows of.)
//! - *In which order may sockets be closed?* [`close_order`]: the first of a hash bucket last.
//!
//! In the agent, `queues` reads these from the kernel's tables.

mod bucket;
mod pending;

pub(crate) use bucket::{Closing, close_order};
pub use pending::Pending;
