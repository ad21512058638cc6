//! The agent: the only privileged process. It holds a duplicate of every registered listener,
//! publishes the slot tables that the kernel follows, and watches old listeners until nothing is
//! pending on them.
//!
//! [`run`] is the daemon, [`doctor::examine`] is what it checks at its start.
//!
//! One task owns all state (`registry`); connections (`server`) and the blocking table swap
//! talk to it by messages. What may happen to a service is decided in `synflip-plan`; what
//! happens in the kernel is done by `synflip-bpf`; this crate is between the two.

mod adoption;
mod backoff;
mod certificate;
mod closing;
mod config;
mod connection;
mod custody;
pub mod doctor;
mod drain;
mod error;
mod fault;
mod fdstore;
mod flip;
mod handover;
mod limits;
mod metrics;
mod netns;
mod notes;
mod peers;
mod process;
mod queues;
mod recovery;
mod registration;
mod registry;
mod relay;
mod requests;
mod selftest;
mod server;
mod service;
mod status;
mod sys;
mod timeline;
mod upkeep;

pub use config::Config;
pub use error::AgentError;
pub use fault::{DieAt, NoSuchPoint, Point};
pub use server::run;
