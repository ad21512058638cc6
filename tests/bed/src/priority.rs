//! How do instruments stay on time where others are at work too, and what is measured where it is?
//!
//! The wire is a pair of threads and the clients are one: late, they add to every latency. So they
//! go before other programs; what is measured, the agent and the servers, does not.

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Starts threads or processes that go before others.
///
/// Both inherit the priority of the thread that starts them. Where it may not be changed, they
/// are as others are.
pub fn first<T>(start: impl FnOnce() -> T) -> T {
    let before = getpriority_process(None).unwrap_or(0);
    setpriority_process(None, before.min(NICE)).unwrap_or_default();
    let started = start();
    setpriority_process(None, before).unwrap_or_default();
    started
}

/// Starts threads or processes that stay on one processor: the first, the second, … of those that
/// this thread may use.
///
/// Where the scheduler has put a process decides what it costs to wake it, and it stays there for
/// as long as nothing moves it: two servers that are alike differ by several percent. Where there
/// is no such processor, or it may not be chosen, they go where the scheduler wants.
pub fn on_processor<T>(number: usize, start: impl FnOnce() -> T) -> T {
    let Ok(before) = sched_getaffinity(None) else {
        return start();
    };
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
    let Some(cpu) = allowed.nth(number) else {
        return start();
    };
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).unwrap_or_default();
    let started = start();
    sched_setaffinity(None, &before).unwrap_or_default();
    started
}

const NICE: i32 = -10;
