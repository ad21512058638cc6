//! The only crate that knows how the kernel side is loaded, pinned, published and read.
//!
//! [`Steering`] is one service's maps and programs; [`Publisher`] is the part of it that a flip
//! goes through. [`Looker`] shows what is pending on listeners. [`probe`] says what this kernel can do.

mod bpffs;
mod carry_over;
mod counters;
mod error;
mod looker;
mod object;
mod pins;
mod probe;
mod programs;
mod publish;
mod slot_table;
mod sockets;
mod steering;
mod sys;
mod timeline;
mod types;
mod v2;

pub use bpffs::{DEFAULT_BPFFS, Found, prepare as prepare_bpffs, service_dir, services};
pub use carry_over::{CarriedOver, carry_over};
pub use counters::{Outcomes, Selections};
pub use error::BpfError;
pub use looker::{Listeners, Looker};
pub use object::{MAPS, Object, Variant};
pub use pins::{Leftover, leftovers, remove as remove_pins};
pub use probe::{Privilege, Probe, probe};
pub use publish::{Published, Publisher, Step};
pub use steering::Steering;
pub use sys::detach;
