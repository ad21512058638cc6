//! Taking a duplicate of a listener from the process that holds it.

use std::{
    fs, io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{PidfdGetfdFlags, pidfd_getfd},
};
use socket2::SockRef;
use synflip_types::Cookie;

/// A duplicate of the listener with this cookie ([`pidfd_getfd`], 5.6 and later; needs
/// CAP_SYS_PTRACE, or to be the process's own user).
///
/// Which of the process's descriptors it is nobody says, so each socket is duplicated until the
/// cookie is the right one; the others are closed at once.
///
/// # Errors
/// When the process has ended, has no descriptor of it, or does not let its descriptors be taken.
///
/// [`pidfd_getfd`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/pid.c
pub(crate) fn listener(pid: u32, process: BorrowedFd<'_>, cookie: Cookie) -> io::Result<OwnedFd> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !is_socket {
            continue;
        }
        let fd = match pidfd_getfd(process, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => fd,
            // Closed meanwhile.
            Err(Errno::BADF) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if SockRef::from(&fd).cookie().is_ok_and(|its| its == cookie.0) {
            return Ok(fd);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "the process has no descriptor of it",
    ))
}
