//! What a job has left behind.

use std::{
    fs,
    path::Path,
    process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// The environment variable by which the processes of a job are known: whatever they have become,
/// they have it from their parents.
pub const MARK: &str = "SYNFLIP_JOB";

/// A new value for [`MARK`].
pub fn mark() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    marks_of(process::id()) + &format!("{number}-")
}

/// What all marks begin with that a process has made.
pub fn marks_of(process: u32) -> String {
    format!("{process}-")
}

/// Kills every process whose mark begins so, and waits until they are gone.
pub fn kill_marked(mark: &str) {
    let entry = format!("{MARK}={mark}").into_bytes();
    // A process that was being forked is seen the next time.
    for _ in 0..ROUNDS {
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        let pids = processes.filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
        let found = pids
            .filter_map(Pid::from_raw)
            .filter(|pid| kill_if(*pid, &entry))
            .count();
        if found == 0 {
            return;
        }
    }
}

/// Kills a process that has an entry in its environment that begins so.
fn kill_if(pid: Pid, entry: &[u8]) -> bool {
    // Held before it is looked at: by then its number cannot become another's.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    let Ok(environment) = fs::read(Path::new(&path)) else {
        return false;
    };
    // Those of kernel threads, and of processes that have ended, are empty, and they have no
    // program. One that has is just being replaced by another: it is seen the next time.
    if environment.is_empty() {
        return fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).is_ok();
    }
    if !environment
        .split(|byte| *byte == 0)
        .any(|one| one.starts_with(entry))
    {
        return false;
    }
    // It may just have ended by itself.
    pidfd_send_signal(&process, Signal::KILL).unwrap_or_default();
    let mut gone = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut gone, Some(&DEATH)).unwrap_or_default();
    true
}

const ROUNDS: usize = 20;
/// How long a killed process may take to end.
const DEATH: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
