//! The children of PID 1: the jobs, and every orphan.

use std::{
    collections::HashMap,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus},
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, wait},
};
use synflip_exchange::Wait;

/// Collects whoever ends, and passes on how the jobs have ended.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    /// The jobs' processes, and how they have ended.
    jobs: Mutex<HashMap<Pid, Option<ExitStatus>>>,
    changed: Condvar,
}

impl Reaper {
    /// Collects for ever.
    pub(crate) fn start(&'static self) {
        thread::spawn(move || {
            loop {
                match wait(WaitOptions::empty()) {
                    Ok(Some((pid, status))) => self.collected(pid, status.as_raw()),
                    // Nobody is left until the next job starts.
                    Err(Errno::CHILD) => {
                        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                        drop(
                            self.changed
                                .wait_while(jobs, |jobs| jobs.values().all(Option::is_some)),
                        );
                    }
                    Ok(None) | Err(_) => {}
                }
            }
        });
    }

    fn collected(&self, pid: Pid, status: i32) {
        // A job that has just started is entered before this goes on.
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = jobs.get_mut(&pid) {
            *end = Some(ExitStatus::from_raw(status));
            self.changed.notify_all();
        }
    }
}

impl Wait for Reaper {
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        jobs.insert(Pid::from_child(&child), None);
        self.changed.notify_all();
        Ok(child)
    }

    fn wait(&self, child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let pid = Pid::from_child(child);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |jobs: &mut HashMap<Pid, _>| jobs.get(&pid).is_some_and(Option::is_none);
        let (mut jobs, _) = self
            .changed
            .wait_timeout_while(jobs, limit, runs)
            .unwrap_or_else(PoisonError::into_inner);
        let ended = jobs.get(&pid).copied().flatten();
        if ended.is_some() {
            jobs.remove(&pid);
        }
        Ok(ended)
    }
}
