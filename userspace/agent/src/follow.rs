//! Following processes that do not speak for themselves, until they end.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use synflip_plan::ProcessId;
use tokio::sync::mpsc;

use crate::{process::Process, registry::Message, sys};

/// A descriptor of a process that an earlier agent knew, if it lives.
pub(crate) fn open(process: Process) -> Option<OwnedFd> {
    if process.pid == 0 || process.has_ended() {
        return None;
    }
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Another process may have got the number before the pidfd was opened. If it is still the one
    // that was noted, the pidfd is its own.
    (!process.has_ended() && process.is_here()).then_some(pidfd)
}

/// Says when a process has ended.
pub(crate) fn until_it_ends(pidfd: OwnedFd, process: ProcessId, messages: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        match sys::pollable(pidfd) {
            // A pidfd is readable once its process has exited (`pidfd_poll`, 5.3 and later:
            // https://elixir.bootlin.com/linux/v6.12/source/fs/pidfs.c).
            Ok(pidfd) => drop(pidfd.readable().await),
            Err(error) => tracing::warn!("a process cannot be followed: {error}"),
        }
        drop(messages.send(Message::Gone { peer: process }).await);
    });
}
