//! systemd's descriptor store: custody that outlives the agent.
//!
//! With `FileDescriptorStoreMax=` in its unit, listeners that the agent holds survive its death,
//! so that a server which dies *while there is no agent* still loses nothing that was queued. What
//! is beyond that number systemd closes again, and does not say so. Not under systemd, all of this
//! does nothing.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
};

use sd_notify::NotifyState;
use socket2::SockRef;
use synflip_types::Cookie;

use crate::{custody::Custody, sys};

/// What systemd has kept, by socket cookie.
pub(crate) type Kept = HashMap<Cookie, OwnedFd>;

/// Whether there is one: it may keep nothing all the same.
pub(crate) fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Gives systemd a duplicate of a listener.
pub(crate) fn keep(listener: &Custody) {
    let name = name(listener.cookie);
    // A listener never hangs up; systemd need not watch it.
    let state = [
        NotifyState::FdStore,
        NotifyState::FdName(&name),
        NotifyState::Custom("FDPOLL=0"),
    ];
    report(sd_notify::notify_with_fds(&state, &[listener.as_fd()]));
}

/// Has systemd close its duplicate.
pub(crate) fn forget(cookie: Cookie) {
    let name = name(cookie);
    report(sd_notify::notify(&[
        NotifyState::FdStoreRemove,
        NotifyState::FdName(&name),
    ]));
}

/// Takes back what systemd has kept for the agent before this one. Once per process.
pub(crate) fn take_back() -> Kept {
    let mut kept = Kept::new();
    for fd in sys::systemd_fds() {
        // What is no socket was not put there by an agent.
        if let Ok(cookie) = SockRef::from(&fd).cookie() {
            kept.insert(Cookie(cookie), fd);
        }
    }
    kept
}

fn name(cookie: Cookie) -> String {
    format!("listener-{cookie}")
}

fn report(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("systemd's descriptor store: {error}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documented_store_has_room_for_a_service() {
        let most = format!("FileDescriptorStoreMax={}", synflip_abi::MAX_SLOTS);
        let limit = "LimitNOFILE=524288";
        for (what, text) in [
            ("README.md", include_str!("../../../README.md")),
            (
                "the tests' unit",
                include_str!("../../../vm-images/systemd/synflip.service"),
            ),
        ] {
            assert!(text.contains(&most) && text.contains(limit), "{what}");
        }
    }
}
