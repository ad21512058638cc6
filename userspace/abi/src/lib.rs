//! What the BPF object and the agent agree on: limits, map names, and the layout of what is
//! stored in the maps.
//!
//! Anything that changes here changes [`VERSION`], because the maps are pinned and outlive the
//! program that made them.

#![no_std]
#![forbid(unsafe_code)]

mod asked;
mod looked;
mod members;
mod moments;
mod table;

pub use asked::Asked;
pub use looked::{Field, Looked};
pub use members::{Member, MemberState};
pub use moments::Moment;
pub use table::{
    ENTRY_WORDS, FIRST_SLOT, MAX_SHARES, META, Share, SlotEntry, Span, TABLE_ENTRIES, TableEntry,
    WHOLE,
};

/// Version of everything in this crate; part of the path under which maps are pinned.
pub const VERSION: u32 = 3;

/// Endpoints (protocol + local address) that one service can have.
pub const MAX_ENDPOINTS: u32 = 16;

/// Listeners of one service, all generations together. A service that an earlier version has
/// begun has as many as its pinned [`SOCKETS`] have entries.
pub const MAX_SLOTS: u32 = 4096;

/// Slots the program tries before it leaves the choice to the kernel.
///
/// A slot is empty only between a listener's end and the next table, so the second try nearly
/// always succeeds; this many cover a generation of which all but one have just been shut down.
/// Tries that are not needed cost nothing but code that is not run.
pub const MAX_TRIES: u32 = 16;

/// Events of a service that its [`TIMELINE`] remembers.
pub const MAX_MOMENTS: u32 = 128;

/// Name of the map of maps: [`PUBLISHED`] holds the slot table that the program follows.
pub const TABLES: &str = "TABLES";
/// Name of the `REUSEPORT_SOCKARRAY`: slot → listener.
pub const SOCKETS: &str = "SOCKETS";
/// Name of the array slot → packed [`Member`], which only the agent reads and writes.
pub const MEMBERS: &str = "MEMBERS";
/// Name of the per-CPU array slot → `[u64; COUNTER_WORDS]`.
pub const COUNTERS: &str = "COUNTERS";
/// Name of the per-CPU array endpoint → `[u64; OUTCOME_WORDS]`: what no slot was given.
pub const OUTCOMES: &str = "OUTCOMES";
/// Name of the array endpoint → `[u64; PAST_WORDS]`: what listeners were given that have gone,
/// and which only the agent reads and writes.
pub const PAST: &str = "PAST";
/// Name of the array endpoint → packed [`Asked`], or 0.
pub const ASKED: &str = "ASKED";
/// Name of the array of packed [`Moment`]s, which only the agent reads and writes.
pub const TIMELINE: &str = "TIMELINE";
/// Name of the socket storage whose entries are the listeners that the iterator visits: the agent
/// gives one to each that it holds. What is stored means nothing.
pub const LISTENERS: &str = "LISTENERS";
/// Name of the global that tells a loaded program which endpoint it serves.
pub const ENDPOINT: &str = "ENDPOINT";
/// Name of the global that tells the iterator where the kernel has each [`Field`].
pub const OFFSETS: &str = "OFFSETS";
/// Name of the global that tells the iterator by how much [`Field::FileCount`] is too low.
pub const FILE_COUNT_FROM: &str = "FILE_COUNT_FROM";

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

/// Outcome: no table was published, or it has no listener on this endpoint; the kernel's hash
/// chose.
pub const NO_TABLE: usize = 0;
/// Outcome: no slot of the table could be selected; the kernel's hash chose.
pub const FELL_BACK: usize = 1;
/// Words of one entry of [`OUTCOMES`].
///
/// A run counts in one place only: here, or for the slot that it selected. The number of runs is
/// the sum.
pub const OUTCOME_WORDS: usize = 2;

/// Past: [`SELECTED`] of the endpoint's listeners that have gone.
pub const PAST_SELECTED: usize = 0;
/// Past: [`MIGRATED`] of them.
pub const PAST_MIGRATED: usize = 1;
/// Past: one more than the slot whose counters are contained and may not be reset yet; 0 if none.
///
/// It is written together with the sums, so an agent that ends between this and the reset leaves
/// nothing that would be counted twice.
pub const PAST_SLOT: usize = 2;
/// Words of one entry of [`PAST`].
pub const PAST_WORDS: usize = 3;
