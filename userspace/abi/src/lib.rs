//! What the BPF object and the agent agree on: limits, map names, and the layout of what is
//! stored in the maps.
//!
//! Anything that changes here changes [`VERSION`], because the maps are pinned and outlive the
//! program that made them.

#![no_std]
#![forbid(unsafe_code)]

mod members;
mod table;

pub use members::{Member, MemberState};
pub use table::{EPOCH_WORD, GENERATION_WORD, HEADER_WORDS, Span, TABLE_WORDS};

/// Version of everything in this crate; part of the path under which maps are pinned.
pub const VERSION: u32 = 2;

/// Endpoints (protocol + local address) that one service can have.
pub const MAX_ENDPOINTS: u32 = 16;

/// Listeners of one service, all generations together.
pub const MAX_SLOTS: u32 = 1024;

/// Slots the program tries before it leaves the choice to the kernel.
///
/// A slot is empty only between a listener's end and the next table, so the second try nearly
/// always succeeds; this many cover a generation of which all but one have just been shut down.
pub const MAX_TRIES: u32 = 16;

/// Name of the map of maps: [`PUBLISHED`] holds the slot table that the program follows.
pub const TABLES: &str = "TABLES";
/// Name of the `REUSEPORT_SOCKARRAY`: slot → listener.
pub const SOCKETS: &str = "SOCKETS";
/// Name of the array slot → packed [`Member`], which only the agent reads and writes.
pub const MEMBERS: &str = "MEMBERS";
/// Name of the per-CPU array slot → `[u64; COUNTER_WORDS]`.
pub const COUNTERS: &str = "COUNTERS";
/// Name of the per-CPU array endpoint → `[u64; OUTCOME_WORDS]`.
pub const OUTCOMES: &str = "OUTCOMES";
/// Name of the global that tells a loaded program which endpoint it serves.
pub const ENDPOINT: &str = "ENDPOINT";

/// Index in [`TABLES`] of the table that the program follows.
pub const PUBLISHED: u32 = 0;
/// Index in [`TABLES`] that is rewritten only to wait for a grace period.
pub const BARRIER: u32 = 1;
/// Entries of [`TABLES`].
pub const TABLES_LEN: u32 = 2;

/// Counter: new connections (or stray segments) given to this slot.
pub const SELECTED: usize = 0;
/// Counter: those of [`SELECTED`] and [`MIGRATED`] for which an earlier slot was empty.
pub const RETRIED: usize = 1;
/// Counter: requests and queued connections of a closed listener moved to this slot.
pub const MIGRATED: usize = 2;
/// Words of one entry of [`COUNTERS`].
pub const COUNTER_WORDS: usize = 3;

/// Outcome: the program ran. Each run adds one to exactly one of the other outcomes.
pub const RUNS: usize = 0;
/// Outcome: a listener of the published table was selected.
pub const STEERED: usize = 1;
/// Outcome: a request or connection of a closed listener was moved to one of the table.
pub const MOVED: usize = 2;
/// Outcome: no table was published, or it has no listener on this endpoint; the kernel's hash
/// chose.
pub const NO_TABLE: usize = 3;
/// Outcome: no slot of the table could be selected; the kernel's hash chose.
pub const FELL_BACK: usize = 4;
/// Words of one entry of [`OUTCOMES`].
pub const OUTCOME_WORDS: usize = 5;
