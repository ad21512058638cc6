//! How do instruments stay on time where others are at work too?
//!
//! The wire is a pair of threads and the clients are one: late, they add to every latency. So they
//! go before other programs; what is measured, the agent and the servers, does not.

use rustix::process::{getpriority_process, setpriority_process};

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

const NICE: i32 = -10;
