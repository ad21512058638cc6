//! What may happen to a service: the whole protocol, without IO.
//!
//! [`Service`] is one service, and [`Service::on`] the one way into it: it takes notice of a fact
//! ([`Input`]: a process has registered, is ready, has left; a table has been published; so much is
//! pending; time has passed) and returns what is to be done about it ([`Effect`]: publish, read,
//! lend, close, tell, note, …). Descriptors and clocks never come in here: it knows slots, cookies
//! and moments. [`Host`] is what spans services: who owns which name and which reuseport group.
//!
//! # What happens to a queued connection
//!
//! A connection that is queued, or half-open, belongs to one listener from its SYN on. The agent
//! has a duplicate of each (*custody*), so no death of a server closes one.
//!
//! | who dies | what happens | where |
//! | --- | --- | --- |
//! | nobody; a flip | the old generation goes on accepting until nothing is pending | [`drain`](self) |
//! | a process of the working generation | a table without its listeners is published; what is queued on them is lent to its siblings, who accept it | `leave`, `flip`, `closing` |
//! | the last process of the working generation | the newest generation that is ready works; it is lent the queues | `flip` (`successor`), `closing` |
//! | the same, and no other is ready | the listeners stay open and in the table for the hold time: connections wait in them for whoever comes | `leave` (`hold`) |
//! | an old generation that drains | its queues are lent to the working one, and the drain goes on | `closing` |
//! | the agent | the kernel goes on steering; the one that comes after finds table, listeners and notes, and goes on | `recover` |
//! | agent and server together | what systemd keeps of it survives; without, it is reset as with any server | `recover` |
//!
//! A listener is closed only when nobody serves it, no table names it and nothing is pending on it
//! (`closing`), with one exception for the first of each hash bucket.

#![forbid(unsafe_code)]

mod closing;
mod drain;
mod effect;
mod error;
mod flip;
mod generation;
mod host;
mod input;
mod join;
mod leave;
mod pending;
mod recover;
mod service;
mod table;
#[cfg(test)]
mod tests;
mod time;

pub use effect::{Answer, DrainEnd, Effect, EffectKind, Event, Flip, Happened, Note, NoteState};
pub use error::PlanError;
pub use generation::{Generation, Link, Listener, Phase, Process, Ready, Role};
pub use host::{Admission, Group, Host, HostError, Quotas};
pub use input::{
    Asker, Departure, FlipRequest, Input, Join, NotPublished, ProcessId, Reading, Target,
};
pub use pending::Pending;
pub use recover::Left;
pub use service::{Place, Rules, Service};
pub use table::Table;
pub use time::{Moment, Pace};
