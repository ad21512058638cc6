//! The system calls that no crate offers safely.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use tokio::io::unix::AsyncFd;

/// `SIOCGSKNS` (`include/uapi/linux/sockios.h`).
const SIOCGSKNS: libc::Ioctl = 0x894C;

/// Opens the network namespace that a socket is in. Needs CAP_NET_ADMIN in it.
pub(crate) fn socket_netns(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: SIOCGSKNS takes no argument; on any socket it returns a new descriptor or an error.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the runtime wait for a descriptor.
pub(crate) fn pollable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names one descriptor, and keeps it open for as long as it lives.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Takes the descriptors that systemd has passed to this process. Once per process.
pub(crate) fn systemd_fds() -> Vec<OwnedFd> {
    // Without the variables, or with those of another process, there is nothing to take.
    let Ok(fds) = sd_notify::listen_fds() else {
        return Vec::new();
    };
    // SAFETY: systemd has passed them to this process (LISTEN_PID was compared), and only this
    // function, which is called once, takes them.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// A listener's accept queue as TCP_INFO tells it (`tcp_get_info`: `tcpi_unacked`).
pub(crate) fn accept_queue(listener: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: all-zero bytes are a valid tcp_info, which has only integers.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = length_of::<libc::tcp_info>();
    // SAFETY: the kernel writes at most `length` bytes into `info` and says how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(info.tcpi_unacked)
    }
}

/// A listener's TCP_DEFER_ACCEPT, in seconds as the kernel rounds them.
pub(crate) fn defer_accept(listener: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut seconds: libc::c_int = 0;
    let mut length = length_of::<libc::c_int>();
    // SAFETY: the kernel writes at most `length` bytes, the size of `seconds`.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut seconds).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(seconds)
    }
}

/// Sets a listener's TCP_DEFER_ACCEPT, in seconds; 0 turns it off.
pub(crate) fn set_defer_accept(listener: BorrowedFd<'_>, seconds: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads an int, which `seconds` is.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length_of::<libc::c_int>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
