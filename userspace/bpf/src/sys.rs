//! The one place with calls that neither aya nor std offers: reading and writing a
//! `REUSEPORT_SOCKARRAY` whose values are 64 bits wide, so that cookies can be read back; reading
//! the number of a map in a map of maps; making, filling and reading a slot table in one call
//! each; attaching an iterator to a map; pinning a program by its descriptor; taking a
//! program off a reuseport group; and giving memory back.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use synflip_abi::TableEntry;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_TRACE_ITER: u32 = 28;

/// The part of `union bpf_attr` that making a map uses (`include/uapi/linux/bpf.h`).
#[repr(C, align(8))]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// The part that the element commands use.
#[repr(C, align(8))]
struct Element {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that the commands use which take many elements.
#[repr(C, align(8))]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part that pinning uses.
#[repr(C, align(8))]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part that attaching an iterator uses.
#[repr(C, align(8))]
struct Link {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    _pad: u32,
}

/// The part that beginning a walk uses.
#[repr(C, align(8))]
struct Walk {
    link_fd: u32,
    flags: u32,
}

/// What a map of this crate's can have as a value: 4, 8 or 16 bytes, any of which mean something.
pub(crate) trait Value: Copy + Default {}
impl Value for TableEntry {}
impl Value for u32 {}
impl Value for u64 {}

/// Makes an array with values of this many bytes.
pub(crate) fn create_array(value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let create = Create {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries,
        map_flags: 0,
        inner_map_fd: 0,
    };
    opened(BPF_MAP_CREATE, &create)
}

/// Attaches an iterator over a map's entries.
pub(crate) fn link_iterator(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // `union bpf_iter_link_info`, of which this is the first one.
    let map = map.as_raw_fd().cast_unsigned();
    let link = Link {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_fd: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        iter_info: &raw const map as u64,
        iter_info_len: 4,
        _pad: 0,
    };
    opened(BPF_LINK_CREATE, &link)
}

/// Begins a walk of an iterator; what it writes is read from the descriptor.
pub(crate) fn open_iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let walk = Walk {
        link_fd: link.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    opened(BPF_ITER_CREATE, &walk)
}

/// Pins a program.
pub(crate) fn pin(program: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &pin).map(drop)
}

/// Opens what is pinned.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    opened(BPF_OBJ_GET, &pin)
}

/// Fills the first entries of a slot table.
pub(crate) fn fill<V: Value>(map: BorrowedFd<'_>, entries: &[V]) -> io::Result<()> {
    let count = u32::try_from(entries.len()).map_err(io::Error::other)?;
    let keys: Vec<u32> = (0..count).collect();
    let batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: entries.as_ptr() as u64,
        count,
        map_fd: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_BATCH, &batch).map(drop)
}

/// Reads the first entries of a slot table; there must be so many.
pub(crate) fn read<V: Value>(map: BorrowedFd<'_>, count: u32) -> io::Result<Vec<V>> {
    let mut keys = vec![0_u32; count as usize];
    let mut entries = vec![V::default(); count as usize];
    let mut next = 0_u32;
    let batch = Batch {
        in_batch: 0,
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: entries.as_mut_ptr() as u64,
        count,
        map_fd: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_BATCH, &batch)?;
    Ok(entries)
}

/// Stores a value under a 32-bit key.
pub(crate) fn update<V: Value>(map: BorrowedFd<'_>, key: u32, mut value: V) -> io::Result<()> {
    command(BPF_MAP_UPDATE_ELEM, map, &key, Some(&mut value))
}

/// Reads the value under a 32-bit key.
pub(crate) fn lookup<V: Value>(map: BorrowedFd<'_>, key: u32) -> io::Result<V> {
    let mut value = V::default();
    command(BPF_MAP_LOOKUP_ELEM, map, &key, Some(&mut value))?;
    Ok(value)
}

/// Removes a 32-bit key.
pub(crate) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    command::<u64>(BPF_MAP_DELETE_ELEM, map, &key, None)
}

/// Takes the program off a listener's reuseport group (`SO_DETACH_REUSEPORT_BPF`).
///
/// # Errors
/// `NotFound` if there is none, or the listener is in no group.
pub fn detach(listener: BorrowedFd<'_>) -> io::Result<()> {
    let unused: i32 = 0;
    // SAFETY: the kernel reads an int, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            i32::BITS / u8::BITS,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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

/// One of the element commands. The map's values must be as large as `V`.
fn command<V: Value>(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &u32,
    value: Option<&mut V>,
) -> io::Result<()> {
    let element = Element {
        map_fd: map.as_raw_fd().cast_unsigned(),
        _pad: 0,
        key: std::ptr::from_ref(key) as u64,
        // The kernel refuses a command with a field set that it does not use.
        value: value.map_or(0, |value| std::ptr::from_mut(value) as u64),
        flags: 0,
    };
    bpf(command, &element).map(drop)
}

/// A command that opens something.
fn opened<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for this process, with FD_CLOEXEC, and nobody else
    // knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads the attributes, and reads or writes what they point to: keys of 4
    // bytes, values of the size of the map's, paths that end in a zero, the number of a map; all of
    // which outlive the call. The callers above
    // pass maps whose values have the size of what they pass.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
