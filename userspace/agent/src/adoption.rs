//! Adopting: servers that run already and know nothing of this.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use synflip_plan::ProcessId;
use synflip_wire::{ErrorCode, Refusal, Register, Reply};

use crate::{
    peers::{self, Peer},
    registry::{Message, Registry},
    sys,
};

impl Registry {
    /// Registers a process on behalf of a peer that may take its descriptors: the first of them is
    /// the process. It accepts already, so it is ready; it is followed until it exits.
    pub(crate) fn adopt(
        &mut self,
        peer: ProcessId,
        register: Register,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Reply, Refusal> {
        let bad = |text: &str| Refusal::new(ErrorCode::BadMessage, text);
        if fds.is_empty() {
            return Err(bad("an adoption needs a pidfd before the listeners"));
        }
        let process = fds.remove(0);
        let pid = pid_of(&process)
            .ok_or_else(|| bad("the first descriptor is no pidfd of a running process"))?;
        let process = sys::pollable(process)
            .map_err(|error| bad(&format!("process {pid} cannot be followed: {error}")))?;
        let adopted = peers::new_id();
        let uid = self
            .context
            .peers
            .get(peer)
            .map_or(u32::MAX, |peer| peer.uid);
        self.context.peers.0.insert(
            adopted,
            Peer {
                uid,
                pid,
                outbox: None,
                member_of: None,
            },
        );
        let registered = self.register(adopted, register, fds);
        let Ok(Reply::Registered {
            service,
            generation,
        }) = &registered
        else {
            self.context.peers.0.remove(&adopted);
            return registered;
        };
        if let Some(service) = self.services.get_mut(service) {
            service.ready(adopted, generation);
        }
        let messages = self.context.messages.clone();
        tokio::spawn(async move {
            // A pidfd is readable once its process has exited (`pidfd_poll`, 5.3 and later).
            drop(process.readable().await);
            drop(messages.send(Message::Gone { peer: adopted }).await);
        });
        registered
    }
}

/// The process that a pidfd refers to (`pidfd_show_fdinfo`, 5.3 and later).
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // -1 once it has exited.
    pid.trim().parse().ok()
}
