//! Work in another network namespace.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    thread,
};

use rustix::{
    fs::fstat,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Runs something in a network namespace; needs CAP_SYS_ADMIN if it is not this process's own.
///
/// What it opens there, sockets and files of `/proc`, stays bound to that namespace.
pub(crate) fn within<T: Send>(
    netns: BorrowedFd<'_>,
    visit: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let own = File::open("/proc/self/ns/net")?;
    if fstat(own.as_fd())?.st_ino == fstat(netns)?.st_ino {
        return visit();
    }
    // A thread of its own, which takes the namespace with it when it ends.
    let visited = thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            visit()
        });
        visitor.join()
    });
    visited.unwrap_or_else(|_| Err(io::Error::other("the thread that entered it panicked")))
}
