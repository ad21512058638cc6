//! The test bed: what does a client see while a server of a private network restarts?
//!
//! Everything runs in network namespaces made for one test and configured over netlink, so a test
//! needs root and a kernel but no userland program at all. It begins with a [`fixture`]: hosts,
//! the line between them, an agent; servers and clients come as it goes on.
//!
//! What that is made of:
//!
//! * [`fixture`]: all of it together, and waiting until the service is as wanted
//! * [`network`]: the hosts of clients and servers, the [`Line`] between them, and clients
//! * [`product`]: the agent, the command line, and generations of a server, as processes
//! * [`load`]: a load generator which accounts for every connection
//! * [`raw`]: a TCP client made of single segments, and a SYN flood
//! * [`wait`]: waiting for an event, with a deadline
//! * [`capability`]: what the kernel under test lacks, and whether that is declared
//!
//! The instruments below, for what a fixture does not do:
//!
//! * [`netns`]: a private network namespace, and code running inside it
//! * [`link`]: two namespaces joined by a delay line with loss
//! * [`veth`]: two namespaces joined by the kernel, with netem if it has that
//! * [`tun`]: a network interface whose wire is this process
//! * [`kills`]: which lost connections died with a server that was killed
//! * [`ledger`]: what a server had accepted and not answered when it was killed
//!
//! That all of this tells the truth is tested in `tests/kernel/instruments`.

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
pub use priority::{first, on_processor};
pub use seed::with_seed;
pub use sys::{
    attach_classic_program, close_inherited, defer_accept, detach_program, set_defer_accept,
};
pub use tun::Tun;
