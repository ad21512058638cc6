//! Where the maps are pinned.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};

use crate::BpfError;

/// The BPF file system that most distributions mount.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` (`include/uapi/linux/magic.h`).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Makes sure that there is a BPF file system at `path`, and mounts one if not.
///
/// # Errors
/// [`BpfError::NoBpffs`] if mounting is refused.
pub fn prepare(path: &Path) -> Result<(), BpfError> {
    let no_bpffs = |source: io::Error| BpfError::NoBpffs {
        path: path.into(),
        source,
    };
    let is_bpffs = || statfs(path).map(|stat| stat.f_type.cast_unsigned() == BPF_FS_MAGIC);
    if is_bpffs().unwrap_or(false) {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(no_bpffs)?;
    mount("bpf", path, "bpf", MountFlags::empty(), c"mode=0700")
        .map_err(|errno| no_bpffs(errno.into()))
}

/// The directory of a service's pins. The version in it is the ABI's: an agent never opens maps
/// of another layout.
pub fn service_dir(bpffs: &Path, service: &str) -> PathBuf {
    root(bpffs).join(service)
}

/// The services that have pins of this version.
///
/// # Errors
/// [`BpfError::Pin`] when they cannot be listed.
pub fn services(bpffs: &Path) -> Result<Vec<String>, BpfError> {
    let root = root(bpffs);
    let failed = |source| BpfError::Pin {
        op: "listing",
        path: root.clone(),
        source,
    };
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// The directory that has one directory per service.
pub(crate) fn root(bpffs: &Path) -> PathBuf {
    bpffs
        .join("synflip")
        .join(format!("v{}", synflip_abi::VERSION))
}

/// The directories of all versions that are there.
pub(crate) fn versions(bpffs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(bpffs.join("synflip")).into_iter().flatten();
    let is_version = |name: &str| {
        let number = name.strip_prefix('v').map(str::parse::<u32>);
        number.is_some_and(|number| number.is_ok())
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(is_version)
        })
        .collect()
}

/// Makes a service's directory.
pub(crate) fn create_dir(dir: &Path) -> Result<(), BpfError> {
    let pin = |source| BpfError::Pin {
        op: "creating",
        path: dir.into(),
        source,
    };
    fs::create_dir_all(dir).map_err(pin)
}

/// Removes a service's pins. What is attached stays attached: the kernel holds it by itself.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), BpfError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BpfError::Pin {
            op: "removing",
            path: dir.into(),
            source: error,
        }),
        _ => Ok(()),
    }
}
