//! A machine whose PID 1 is systemd: the packages of Debian, unpacked and not configured, and of
//! them what such a machine needs. The rest is `vm-images/systemd`.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt::PrivateApt, cargo::root, vm::initramfs::Archive};

/// The kernel that it runs on: its suite is where systemd comes from.
pub(crate) const KERNEL: &str = "6.12";

/// An unpacked systemd, with the libraries that it needs.
#[derive(Debug)]
pub(crate) struct Userland {
    root: PathBuf,
    /// The version of the package.
    pub(crate) version: String,
}

impl Userland {
    /// Downloads the newest of a suite, unless it is here already.
    pub(crate) fn provide(suite: &str, dir: &Path) -> Result<Self> {
        let root = dir.join("systemd").join("root");
        let stamp = dir.join("systemd").join("version");
        let version = match Self::fetch(suite, dir, &root, &stamp) {
            Ok(version) => version,
            // Without a network yesterday's is better than none.
            Err(error) if stamp.exists() => {
                eprintln!("warning: no news of systemd: {error:#}; using the last one");
                read(&stamp)?
            }
            Err(error) => return Err(error).context("systemd"),
        };
        Ok(Self { root, version })
    }

    fn fetch(suite: &str, dir: &Path, root: &Path, stamp: &Path) -> Result<String> {
        let apt = PrivateApt::new(suite, dir.join("apt").join(suite))?;
        let newest = apt.newest(PACKAGE, "")?;
        let newest = newest.with_context(|| format!("{suite} has no package {PACKAGE}"))?;
        if stamp.exists() && read(stamp)? == newest {
            return Ok(newest);
        }
        let failed = || format!("cannot replace {}", root.display());
        for old in [stamp, root] {
            if old.is_dir() {
                fs::remove_dir_all(old).with_context(failed)?;
            } else if old.exists() {
                fs::remove_file(old).with_context(failed)?;
            }
        }
        eprintln!("fetching {PACKAGE} {newest} of {suite}, and what it needs");
        apt.unpack_with_needs(PACKAGE, suite, root)?;
        // Last: whoever finds it finds everything.
        fs::write(stamp, &newest).with_context(failed)?;
        Ok(newest)
    }

    /// Adds it to a machine, and the machine's own units.
    pub(crate) fn archive(&self, archive: &mut Archive<BufWriter<File>>) -> Result<()> {
        for dir in DIRECTORIES {
            archive.directory(dir)?;
        }
        for name in MERGED {
            archive.link(&format!("/{name}"), &format!("usr/{name}"))?;
        }
        self.tree(Path::new("usr"), archive)?;
        archive.link("/init", "usr/lib/systemd/systemd")?;
        archive.link("/var/run", "../run")?;
        archive.data("/etc/machine-id", MACHINE_ID)?;
        archive.data("/etc/os-release", b"ID=debian\n")?;
        let own = root().join("vm-images/systemd");
        for file in sorted(&own)? {
            let place = match file.extension().and_then(|extension| extension.to_str()) {
                Some("service" | "target") => "/etc/systemd/system",
                Some("conf") => "/etc/systemd",
                _ => continue,
            };
            archive.data(&format!("{place}/{}", name(&file)), &content(&file)?)?;
        }
        Ok(())
    }

    /// Adds what is wanted of a directory below the root, if anything is.
    fn tree(&self, dir: &Path, archive: &mut Archive<BufWriter<File>>) -> Result<()> {
        let inside = dir.to_str().context("a path that is not UTF-8")?;
        archive.directory(inside)?;
        for file in sorted(&self.root.join(dir))? {
            let name = name(&file);
            let path = format!("{inside}/{name}");
            if is_wanted_directory(&path) {
                self.tree(Path::new(&path), archive)?;
            } else if file.is_dir() || !is_wanted(inside, &name) {
                continue;
            } else if file.is_symlink() {
                let to = fs::read_link(&file);
                let to = to.with_context(|| format!("cannot read {}", file.display()))?;
                archive.link(&path, to.to_str().context("a link that is not UTF-8")?)?;
            } else if inside == UNITS {
                archive.data(&path, &content(&file)?)?;
            } else {
                archive.file(&path, &content(&file)?)?;
            }
        }
        Ok(())
    }
}

/// Whether a machine has a directory of the packages. It has no `*.wants`: nothing runs in it that
/// `vm-images/systemd` does not ask for.
fn is_wanted_directory(path: &str) -> bool {
    WANTED.iter().any(|(dir, _)| {
        let below = dir.strip_prefix(path);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

/// Whether a machine has a file, or a link, of the packages.
fn is_wanted(dir: &str, name: &str) -> bool {
    let found = WANTED.iter().find(|(wanted, _)| *wanted == dir);
    found.is_some_and(|(_, parts)| parts.iter().any(|part| matches(name, part)))
}

/// With one `*` for anything.
fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
        None => name == pattern,
    }
}

/// What is in a directory, by name.
fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", dir.display());
    let entries = fs::read_dir(dir).with_context(failed)?;
    let files = entries.map(|entry| Ok(entry.with_context(failed)?.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn content(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn read(stamp: &Path) -> Result<String> {
    fs::read_to_string(stamp).with_context(|| format!("cannot read {}", stamp.display()))
}

const PACKAGE: &str = "systemd";

/// Directories that the packages do not have, or have to be there before them.
const DIRECTORIES: [&str; 11] = [
    "/dev",
    "/etc",
    "/etc/systemd",
    "/etc/systemd/system",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/var",
    "/var/tmp",
];

/// Debian has them in /usr, and links where they were.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

const UNITS: &str = "usr/lib/systemd/system";

/// What a machine has of the packages; all of it is in memory.
const WANTED: [(&str, &[&str]); 7] = [
    ("usr/bin", &["journalctl", "systemctl"]),
    (
        "usr/lib/systemd",
        &[
            "systemd",
            "systemd-executor",
            "systemd-journald",
            "systemd-shutdown",
        ],
    ),
    (UNITS, &["*.slice", "*.target", "systemd-journald*"]),
    ("usr/lib/x86_64-linux-gnu", &["ld-linux*", "lib*"]),
    ("usr/lib/x86_64-linux-gnu/systemd", &["*.so"]),
    ("usr/lib64", &["*"]),
    ("usr/sbin", &[]),
];

/// Anything: without one, systemd takes the boot for the first one, and sets up a new system.
const MACHINE_ID: &[u8] = b"5f1e57ab5f1e57ab5f1e57ab5f1e57ab\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_it_needs_of_the_packages_and_no_more() {
        for path in ["usr", "usr/lib", UNITS, "usr/lib/x86_64-linux-gnu/systemd"] {
            assert!(is_wanted_directory(path), "{path}");
        }
        for path in [
            "usr/share",
            "usr/lib/sys",
            "usr/lib/systemd/system/sysinit.target.wants",
            "usr/lib/x86_64-linux-gnu/gconv",
        ] {
            assert!(!is_wanted_directory(path), "{path}");
        }
        assert!(is_wanted(UNITS, "basic.target"));
        assert!(is_wanted(UNITS, "systemd-journald-dev-log.socket"));
        assert!(!is_wanted(UNITS, "tmp.mount"));
        assert!(is_wanted("usr/lib/x86_64-linux-gnu", "libc.so.6"));
        assert!(!is_wanted("usr/lib", "os-release"));
    }
}
