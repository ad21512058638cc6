//! The system calls that neither std nor rustix offers as safe functions.

use std::{
    ffi::c_int,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::AtomicU64,
    time::Duration,
};

use rustix::{
    ioctl::{self, Updater, opcode},
    mm::{MapFlags, ProtFlags, mmap, munmap},
    thread::UnshareFlags,
};

/// Closes whatever this process has inherited from a descriptor's number on (`close_range`, 5.9).
/// To be called first, while nothing of its own is open.
///
/// # Errors
///
/// Those of `close_range(2)`.
pub fn close_inherited(first: u32) -> io::Result<()> {
    // SAFETY: it has no memory of ours to touch; that nothing here owns such a descriptor yet is
    // what the caller promises.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Words of a file that every process which maps it reads and writes in place.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl SharedWords {
    /// Maps the first `count` words of a file, which must stay that long.
    pub(crate) fn map(file: &File, count: usize) -> io::Result<Self> {
        let length = count * size_of::<AtomicU64>();
        if file.metadata()?.len() < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is given, so nothing that is in use is replaced.
        let start = unsafe { mmap(ptr::null_mut(), length, access, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, count })
    }

    /// The words.
    pub(crate) const fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `count` words long and there until `self` is
        // dropped; every bit pattern is a word, and whoever else maps it uses atomics too.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

// SAFETY: the mapping belongs to the process and not to a thread.
unsafe impl Send for SharedWords {}
// SAFETY: all access is by atomics.
unsafe impl Sync for SharedWords {}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let length = self.count * size_of::<AtomicU64>();
        // SAFETY: it is this mapping, and no borrow of it outlives `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), length) };
        // It can only fail for a range that is none.
        unmapped.unwrap_or_default();
    }
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_net() -> io::Result<()> {
    // SAFETY: only CLONE_FILES can make another thread's descriptors dangle,
    // and it is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Turns an open `/dev/net/tun` into a TUN interface of the calling thread's
/// namespace, and returns the name the kernel chose from `pattern`.
pub(crate) fn make_tun(fd: BorrowedFd<'_>, pattern: &str) -> io::Result<String> {
    let mut request = Ifreq {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    if pattern.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..pattern.len()].copy_from_slice(pattern.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is 40 bytes
    // long, as `Ifreq` is, and valid for every bit pattern.
    let call = unsafe { Updater::<TUNSETIFF, Ifreq>::new(&mut request) };
    // SAFETY: any other kind of file rejects the opcode, and `call` borrows the
    // structure until the kernel is done with it.
    unsafe { ioctl::ioctl(fd, call) }?;
    let end = request
        .name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(request.name.len());
    Ok(String::from_utf8_lossy(&request.name[..end]).into_owned())
}

/// A listener's TCP_DEFER_ACCEPT, in seconds as the kernel rounds them.
///
/// # Errors
///
/// Those of `getsockopt`.
pub fn defer_accept(listener: impl AsFd) -> io::Result<u32> {
    let mut seconds: u32 = 0;
    let mut length = OPTION_LENGTH;
    // SAFETY: the kernel writes at most `length` bytes, the size of `seconds`.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut seconds).cast(),
            &raw mut length,
        )
    };
    ok(result).map(|()| seconds)
}

/// Sets a listener's TCP_DEFER_ACCEPT.
///
/// # Errors
///
/// Those of `setsockopt`.
pub fn set_defer_accept(listener: impl AsFd, seconds: u32) -> io::Result<()> {
    // SAFETY: the kernel reads an int, which has the size and alignment of `seconds`.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            OPTION_LENGTH,
        )
    };
    ok(result)
}

/// Takes the program away from the reuseport group that a listener is in.
///
/// # Errors
///
/// Those of `setsockopt`.
pub fn detach_program(member: impl AsFd) -> io::Result<()> {
    let unused: u32 = 0;
    // SAFETY: the kernel reads an int, which has the size and alignment of `unused`.
    let result = unsafe {
        libc::setsockopt(
            member.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            OPTION_LENGTH,
        )
    };
    ok(result)
}

/// Gives the reuseport group that a listener is in a classic program, which sends all
/// connections to one listener: that at a place in the kernel's own order.
///
/// # Errors
///
/// Those of `setsockopt`.
pub fn attach_classic_program(member: impl AsFd, place: u32) -> io::Result<()> {
    let mut always = libc::sock_filter {
        code: RETURN_CONSTANT,
        jt: 0,
        jf: 0,
        k: place,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut always,
    };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads a sock_fprog, and the one instruction that it points to; both
    // live until it is done with them.
    let result = unsafe {
        libc::setsockopt(
            member.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            length,
        )
    };
    ok(result)
}

/// The processor time that a process has taken, its ended threads included.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: libc writes one clockid_t, which `clock` is.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which `time` is.
    ok(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Ok(Duration::new(
        seconds.map_err(io::Error::other)?,
        nanoseconds.map_err(io::Error::other)?,
    ))
}

/// What a system call of libc's says.
fn ok(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `BPF_RET | BPF_K` of `linux/bpf_common.h`.
const RETURN_CONSTANT: u16 = 0x06;
const OPTION_LENGTH: libc::socklen_t = 4;

#[repr(C)]
struct Ifreq {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Ifreq>() == 40);

// The opcode is declared with the size of an int, though it takes an ifreq.
const TUNSETIFF: ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
