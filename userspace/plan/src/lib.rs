//! What may happen to a service, decided without touching anything: generations and their
//! transitions, slot tables, when a drain is over, which listeners may be closed.
//!
//! No IO, no clock, no async. The agent asks, carries out the answer, and reports back; between
//! [`Service::begin_flip`] and [`Service::commit`] or [`Service::abort`] the kernel does its part.

#![forbid(unsafe_code)]

mod closing;
mod drain;
mod error;
mod flip;
mod generation;
mod membership;
mod restore;
mod service;
mod slots;
mod table;

pub use closing::{Closing, close_order};
pub use drain::{Pending, Steps};
pub use error::PlanError;
pub use flip::{Change, Flip, Target};
pub use generation::{Generation, GenerationId, Member, Phase, ProcessId};
pub use membership::Joined;
pub use restore::Left;
pub use service::Service;
pub use slots::Slot;
pub use table::Table;
