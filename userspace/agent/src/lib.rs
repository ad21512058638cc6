//! The agent: the only privileged process. It holds a duplicate of every registered listener,
//! publishes the slot tables that the kernel follows, and watches old listeners until nothing is
//! pending on them.
//!
//! [`run`] is the daemon, [`doctor::examine`] is what it checks at its start.
//!
//! `synflip-plan` decides: a machine for each service. One task (`registry`) tells the machines what
//! happens, and gives what they want done to the service's own thread (`effects`), which carries it
//! out, with `synflip-bpf` for the kernel's part. Connections (`server`, `connection`) talk to the
//! task by messages. ARCHITECTURE.md has the whole way of a flip.

mod buckets;
mod certificate;
mod config;
mod connection;
mod custody;
pub mod doctor;
mod effects;
mod error;
mod fault;
mod fdstore;
mod fetch;
mod follow;
mod foreign;
mod inspect;
mod limits;
mod metrics;
mod netns;
mod peers;
mod process;
mod queues;
mod recovery;
mod registry;
mod relay;
mod requests;
mod selftest;
mod server;
mod service;
mod status;
mod sys;
mod timeline;
mod watchdog;

pub use config::Config;
pub use error::AgentError;
pub use fault::{DieAt, NoSuchPoint, Point};
pub use server::run;
