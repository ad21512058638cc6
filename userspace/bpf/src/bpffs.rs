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
    root(bpffs).join(encoded(service))
}

/// A service's name as a directory's: a BPF file system refuses dots in names ([`bpf_lookup`], 5.10
/// to 7.3), so they are written `%2e`. No service's name has a `%` in it.
///
/// [`bpf_lookup`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/inode.c
fn encoded(service: &str) -> String {
    service.replace('.', "%2e")
}

/// A directory's name as the service's; none if no service has such a directory.
fn decoded(dir: &str) -> Option<String> {
    let service = dir.replace("%2e", ".");
    (!service.contains('%') && encoded(&service) == dir).then_some(service)
}

/// What is where services have their pins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where.
    pub pins: PathBuf,
    /// The service's name; none if this is not a directory, or no service's: whoever made it, it
    /// was not an agent.
    pub service: Option<String>,
}

/// What is where the services of this version have their pins.
///
/// # Errors
/// [`BpfError::Pin`] when it cannot be listed.
pub fn services(bpffs: &Path) -> Result<Vec<Found>, BpfError> {
    found(&root(bpffs))
}

/// What is in the directory of a version.
pub(crate) fn found(root: &Path) -> Result<Vec<Found>, BpfError> {
    let failed = |source| BpfError::Pin {
        op: "listing",
        path: root.into(),
        source,
    };
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // Of the entry itself: what a symlink points to was not made by an agent.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name().into_string().ok().filter(|_| is_dir);
        all.push(Found {
            pins: entry.path(),
            service: name.and_then(|name| decoded(&name)),
        });
    }
    Ok(all)
}

/// The directory that has one directory per service.
pub(crate) fn root(bpffs: &Path) -> PathBuf {
    all(bpffs).join(format!("v{}", synflip_abi::VERSION))
}

/// The directory of all that agents pin.
pub(crate) fn all(bpffs: &Path) -> PathBuf {
    bpffs.join("synflip")
}

/// The directories of all versions that are there.
pub(crate) fn versions(bpffs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(all(bpffs)).into_iter().flatten();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_after_its_service() {
        for (service, dir) in [
            ("web", "web"),
            ("v1.2.3", "v1%2e2%2e3"),
            ("web@v1+x", "web@v1+x"),
            ("a..b", "a%2e%2eb"),
        ] {
            let path = service_dir(Path::new("/fs"), service);
            assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(dir));
            assert_eq!(decoded(dir).as_deref(), Some(service));
        }
        for none in ["%", "a%2E", "%2f", "v1.2", "a%252e"] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }
}
