//! Looking at the descriptors that a peer has sent, before anything is done with them.
//!
//! On a thread that may block: closing one that is refused can take as long as its owner likes
//! (SO_LINGER, a file of a user's file system).

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use synflip_wire::{ErrorCode, ListenerSpec, Refusal};

use crate::{custody::Custody, foreign::Foreign, process::Process};

/// What has passed inspection.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) listeners: Foreign<Vec<Custody>>,
    /// The network namespace of the first of them.
    pub(crate) netns: OwnedFd,
    /// The process that they are registered for.
    pub(crate) process: Process,
    /// A descriptor of that process, if it does not speak for itself.
    pub(crate) adopted: Option<OwnedFd>,
}

/// Inspects the descriptors of a registration by process `pid`.
///
/// # Errors
/// What is wrong with one of them, and what to do.
pub(crate) fn registration(
    specs: &[ListenerSpec],
    fds: Vec<OwnedFd>,
    pid: u32,
) -> Result<Inspected, Refusal> {
    let (listeners, netns) = listeners(specs, fds)?;
    Ok(Inspected {
        listeners: listeners.into(),
        netns,
        process: Process::of(pid),
        adopted: None,
    })
}

/// Inspects those of an adoption: the first is the process.
///
/// # Errors
/// What is wrong with one of them, and what to do.
pub(crate) fn adoption(
    specs: &[ListenerSpec],
    mut fds: Vec<OwnedFd>,
) -> Result<Inspected, Refusal> {
    if fds.is_empty() {
        return Err(bad("an adoption needs a pidfd before the listeners".into()));
    }
    let process = fds.remove(0);
    let pid = pid_of(&process)
        .ok_or_else(|| bad("the first descriptor is no pidfd of a running process".into()))?;
    let (listeners, netns) = listeners(specs, fds)?;
    Ok(Inspected {
        listeners: listeners.into(),
        netns,
        process: Process::of(pid),
        adopted: Some(process),
    })
}

fn listeners(
    specs: &[ListenerSpec],
    fds: Vec<OwnedFd>,
) -> Result<(Vec<Custody>, OwnedFd), Refusal> {
    if specs.len() != fds.len() {
        let text = format!(
            "{} listeners were named, {} descriptors came",
            specs.len(),
            fds.len()
        );
        return Err(bad(text));
    }
    let mut netns = None;
    let mut listeners = Vec::with_capacity(fds.len());
    for (spec, fd) in specs.iter().zip(fds) {
        let (listener, its_netns) = Custody::take(fd, spec.endpoint.address())?;
        netns.get_or_insert(its_netns);
        listeners.push(listener);
    }
    let netns = netns.ok_or_else(|| bad("a registration needs at least one listener".into()))?;
    Ok((listeners, netns))
}

/// The process that a pidfd refers to ([`pidfd_show_fdinfo`], 5.3 and later).
///
/// [`pidfd_show_fdinfo`]: https://elixir.bootlin.com/linux/v6.12/source/fs/pidfs.c
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // -1 once it has exited.
    pid.trim().parse().ok()
}

fn bad(text: String) -> Refusal {
    Refusal::new(ErrorCode::BadMessage, text)
}
