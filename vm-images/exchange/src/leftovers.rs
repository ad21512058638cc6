//! What a job has left behind.

use std::{fs, path::Path};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// The environment variable by which the processes of a job are known: whatever they have become,
/// they have it from their parents.
pub(crate) const MARK: &str = "SYNFLIP_JOB";

/// Kills every process with a mark in its environment, and waits until they are gone.
pub(crate) fn kill_marked(mark: &str) {
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

/// Kills a process that has this entry in its environment.
fn kill_if(pid: Pid, entry: &[u8]) -> bool {
    // Held before it is looked at: by then its number cannot become another's.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    // Those of kernel threads, and of processes that have ended, are empty.
    let Ok(environment) = fs::read(Path::new(&path)) else {
        return false;
    };
    if !environment.split(|byte| *byte == 0).any(|one| one == entry) {
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
