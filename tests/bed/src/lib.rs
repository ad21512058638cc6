//! The test bed: what does a client see while a server of a private network restarts?
//!
//! Everything runs in network namespaces made for one test and configured over
//! netlink, so a test needs root and a kernel but no userland program at all.
//!
//! * [`fixture`]: all of it together, which most tests begin with
//! * [`network`]: two hosts, the line between them, and clients
//! * [`netns`]: a private network namespace, and code running inside it
//! * [`tun`]: a network interface whose wire is this process
//! * [`link`]: two namespaces joined by a delay line with loss
//! * [`veth`]: two namespaces joined by the kernel, with netem if it has that
//! * [`load`]: a load generator which accounts for every connection
//! * [`kills`]: which lost connections died with a server that was killed
//! * [`ledger`]: what a server had accepted and not answered when it was killed
//! * [`plain`]: the server that restarts the ordinary way, and loses connections
//! * [`product`]: the agent, the command line, and generations of a server, as processes
//! * [`raw`]: a TCP client made of single segments, and a SYN flood
//! * [`wait`]: waiting with a deadline
//! * [`capability`]: what the kernel under test is known to lack

#![deny(unsafe_code)]

pub mod capability;
mod family;
pub mod fixture;
pub mod kills;
pub mod ledger;
pub mod link;
pub mod load;
mod netem;
mod netlink;
pub mod netns;
pub mod network;
mod note;
pub mod plain;
mod priority;
pub mod product;
mod qdisc;
pub mod raw;
mod seed;
#[expect(unsafe_code, reason = "the only system calls without a safe wrapper")]
mod sys;
pub mod tun;
pub mod veth;
pub mod wait;

pub use family::Family;
pub use fixture::{Fixture, Setup};
pub use link::{Delay, Link};
pub use netem::Netem;
pub use netns::Netns;
pub use network::{Line, Network};
pub use note::note;
pub use priority::first;
pub use seed::with_seed;
pub use sys::{attach_classic_program, defer_accept, detach_program, set_defer_accept};
pub use tun::Tun;
