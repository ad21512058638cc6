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
//! The kernel chooses a listener once, when the SYN comes: the program in the reuseport group
//! ([`reuseport_select_sock`]) looks up the published *table* and takes one of the *slots* that it
//! names. From then on the half-open request, and later the connection in the accept queue, belong
//! to that listener ([`inet_reqsk_alloc`] keeps a reference on it). Publishing another table moves
//! nothing of that; it decides only about the SYNs that come after it.
//!
//! All that is pending on a listener is reset when its *last* descriptor is closed
//! ([`inet_csk_listen_stop`]; from 5.14 on it may be moved to a listener of the same group). The
//! agent has a duplicate of each descriptor (*custody*), so the death of a server closes no
//! listener: what is pending on it stays, and new handshakes end in its accept queue as before.
//! What the machine has to see to is that somebody accepts it.
//!
//! | who dies | what happens to what is pending on its listeners | to new connections | where |
//! | --- | --- | --- | --- |
//! | nobody: a flip | the old generation goes on accepting until nothing is pending, and only then is told to close | go to the new generation | `flip`, `drain` |
//! | a process of the working generation | is lent to its siblings, who accept from the dead one's listener as from their own | go to the siblings: a table without it is published | `leave`, `succession`, `lend` |
//! | the last process of the working generation | is lent to the generation that succeeds | go to the newest other generation that is ready, drains or stands by | `succession`, `lend` |
//! | the same, and there is no other | waits, for [`Rules::hold`] at most, for whoever registers; then it is reset | wait in the same listener: it stays in the table | `leave` (`hold`) |
//! | a process of a generation that drains or stands by | is lent to the working generation; the drain ends when it is accepted | never came to it | `lend`, `drain` |
//! | nobody, but a process that lives closes a listener silently | within a second the same as if it had ended | as if it had ended | `leave` (`abandoned`) |
//! | nobody, but a process that lives accepts from a listener no more | is lent to those who accept once somebody has waited for a second | go to the siblings, until a connection of the agent's own has been accepted there | `stuck` |
//! | whoever a listener was lent to | is lent to the others who accept at the address | as before | `leave`, `lend` |
//! | a process that is not ready, or while it registers | there is nothing, if the program was in place; otherwise as above | never came to it | `join`, `joined`, `closing` |
//! | the agent | stays: the servers have their descriptors, and accept | go where they did: the groups hold the program and the program its maps | `recover` |
//! | the agent and a server together | stays if systemd has kept the agent's duplicate; otherwise the last descriptor is closed with the server | go to the other listeners in the table; if there is none, wherever the kernel's hash says | `recover` |
//!
//! Servers that were adopted cannot be lent anything. What a dead one leaves is moved by the
//! kernel when the agent closes the last descriptor, where it can ([`Rules::migrates`]), or else
//! carried by a relay (`lend`).
//!
//! A listener is closed only when no process holds it, no table names it, nobody has been lent it
//! and nothing is pending on it; and the first of each hash bucket not even then (`tcp` says
//! why). Two things close it whatever is pending, and count what is lost: `retire --force`, and the
//! end of the hold, which comes at once where all that were there had been told to close, or where
//! somebody who is not registered listens too.
//!
//! # Words
//!
//! An *endpoint* is an address; a *place* is what is known of it. A generation *works* if the
//! published table is its own. A listener is *held* by the processes that accept from it, *lent* to
//! those that accept what is left on it, *in custody* if the agent has a duplicate, a *tombstone* if
//! it stays only because it is the first of its bucket, *stuck* if somebody waits on it while its
//! siblings are accepted from.
//!
//! [`reuseport_select_sock`]: https://elixir.bootlin.com/linux/v6.12/source/net/core/sock_reuseport.c
//! [`inet_reqsk_alloc`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_connection_sock.c
//! [`inet_csk_listen_stop`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_connection_sock.c

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
mod joined;
mod leave;
mod leaving;
mod lend;
mod look;
mod notes;
mod recover;
mod release;
mod retire;
mod rules;
mod service;
mod stuck;
mod succession;
mod table;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod time;
mod told;
mod view;
mod wake;

pub use effect::{Effect, EffectKind};
pub use error::PlanError;
pub use generation::{Generation, Link, Listener, Phase, Process, Ready, Role};
pub use host::{Admission, Group, Host, HostError, Quotas};
pub use input::{
    Asker, Departure, FlipRequest, Input, Join, NotPublished, ProcessId, Reading, Target, Waiting,
};
pub use notes::{Note, NoteState};
pub use recover::Inherited;
pub use rules::Rules;
pub use service::{Place, Service};
pub use stuck::Stuck;
pub use table::Table;
pub use tcp::Pending;
pub use time::{Moment, Pace, Retry};
pub use told::{Answer, DrainEnd, Event, Flip, Happened};
