//! Every map: who writes it, who reads it.

use aya_ebpf::{
    Global,
    btf_maps::{
        Array, ArrayOfMaps, PerCpuArray, SkStorage, reuseport_sock_array::ReusePortSockArrayImpl,
    },
    macros::btf_map,
};
use synflip_abi::{
    COUNTER_WORDS, Field, MAX_ENDPOINTS, MAX_MOMENTS, MAX_SLOTS, Member, Moment, OUTCOME_WORDS,
    PAST_WORDS, TABLE_ENTRIES, TABLES_LEN, TableEntry,
};

/// An immutable slot table. The agent fills it before it is published and never after.
pub(crate) type Table = Array<TableEntry, { TABLE_ENTRIES as usize }>;

/// Written by the agent, once per flip; read by the program, exactly once per run, so that one
/// run never mixes two tables.
#[btf_map]
pub(crate) static TABLES: ArrayOfMaps<Table, { TABLES_LEN as usize }> = ArrayOfMaps::new();

/// Slot → listener. Written by the agent at registration; the kernel removes a listener that
/// closes. Values are 64 bits wide so that the agent can read cookies back.
#[btf_map]
pub(crate) static SOCKETS: ReusePortSockArrayImpl<u64, { MAX_SLOTS as usize }> =
    ReusePortSockArrayImpl::new();

/// Slot → what the agent has to find again after a restart. The program does not touch it.
#[btf_map]
pub(crate) static MEMBERS: Array<[u64; Member::WORDS], { MAX_SLOTS as usize }> = Array::new();

/// Slot → selected, retried, migrated. Written by the program, read by the agent.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<[u64; COUNTER_WORDS], { MAX_SLOTS as usize }> =
    PerCpuArray::new();

/// Endpoint → no table, fell back: the runs that selected no slot. Written by the program, read by
/// the agent.
#[btf_map]
pub(crate) static OUTCOMES: PerCpuArray<[u64; OUTCOME_WORDS], { MAX_ENDPOINTS as usize }> =
    PerCpuArray::new();

/// Endpoint → what its listeners were given that have gone. The program does not touch it.
#[btf_map]
pub(crate) static PAST: Array<[u64; PAST_WORDS], { MAX_ENDPOINTS as usize }> = Array::new();

/// Endpoint → the port and the slot of a health check, 0 nearly always. Written by the agent, read
/// by the program in each run.
#[btf_map]
pub(crate) static ASKED: Array<u32, { MAX_ENDPOINTS as usize }> = Array::new();

/// What has happened. The program does not touch it.
#[btf_map]
pub(crate) static TIMELINE: Array<[u64; Moment::WORDS], { MAX_MOMENTS as usize }> = Array::new();

/// Listener → nothing. The agent adds each that it holds; the kernel removes one that closes. The
/// iterator visits them, and needs no other way to find them.
#[btf_map]
pub(crate) static LISTENERS: SkStorage<u32> = SkStorage::new();

/// The endpoint that this copy of the program serves, set when it is loaded.
///
/// The initial value is one that no other constant has: a global that equals another constant
/// can be merged with it, and overriding one would then change both.
#[unsafe(no_mangle)]
pub(crate) static ENDPOINT: Global<u32> = Global::new(0xfeed_f00d);

/// Where this kernel has what the iterator reads, set when that is loaded.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: [Global<u32>; Field::COUNT] =
    [const { Global::new(0xfeed_f1e1) }; Field::COUNT];

/// What [`Field::FileCount`] counts from: 0, or 1 from 6.13 on.
#[unsafe(no_mangle)]
pub(crate) static FILE_COUNT_FROM: Global<u32> = Global::new(0xfeed_f11e);
