//! The one place with calls that neither aya nor std offers: reading and writing a
//! `REUSEPORT_SOCKARRAY` whose values are 64 bits wide, so that cookies can be read back, and
//! giving memory back.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;

/// The part of `union bpf_attr` that the element commands use (`include/uapi/linux/bpf.h`).
#[repr(C, align(8))]
struct Element {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Stores a 64-bit value under a 32-bit key.
pub(crate) fn update(map: BorrowedFd<'_>, key: u32, value: u64) -> io::Result<()> {
    command(BPF_MAP_UPDATE_ELEM, map, &key, Some(&mut { value }))
}

/// Reads the 64-bit value under a 32-bit key.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: u32) -> io::Result<u64> {
    let mut value = 0;
    command(BPF_MAP_LOOKUP_ELEM, map, &key, Some(&mut value))?;
    Ok(value)
}

/// Removes a 32-bit key.
pub(crate) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    command(BPF_MAP_DELETE_ELEM, map, &key, None)
}

/// Gives memory that is no longer in use back to the system.
///
/// glibc keeps what is freed if anything that is still in use lies behind it.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and leaves alone what is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn command(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &u32,
    value: Option<&mut u64>,
) -> io::Result<()> {
    let element = Element {
        map_fd: map.as_raw_fd().cast_unsigned(),
        _pad: 0,
        key: std::ptr::from_ref(key) as u64,
        // The kernel refuses a command with a field set that it does not use.
        value: value.map_or(0, |value| std::ptr::from_mut(value) as u64),
        flags: 0,
    };
    // SAFETY: the kernel reads `element` and the 4-byte key it points to, and reads or writes
    // the 8-byte value; all three outlive the call, and this crate's maps have those sizes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const element,
            size_of::<Element>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
