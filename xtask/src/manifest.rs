//! What the committed BPF object was built from, and with what.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::toolchain::Versions;

/// `ebpf/prebuilt/manifest.json`.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Manifest {
    /// SHA-256 of the object.
    pub(crate) object: String,
    /// SHA-256 over the paths and contents of its sources, see [`sources`].
    pub(crate) sources: String,
    /// What built it.
    #[serde(flatten)]
    pub(crate) versions: Versions,
}

impl Manifest {
    pub(crate) fn new(root: &Path, object: &[u8], versions: Versions) -> Result<Self> {
        Ok(Self {
            object: hex(Sha256::new().chain_update(object)),
            sources: sources(root)?,
            versions,
        })
    }

    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        let text = fs::read(&path)
            .with_context(|| format!("cannot read {MANIFEST}; `cargo xtask ebpf` writes it"))?;
        serde_json::from_slice(&text).with_context(|| format!("{MANIFEST} is not a manifest"))
    }

    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(root.join(MANIFEST), text).with_context(|| format!("cannot write {MANIFEST}"))
    }

    /// Says what differs between this manifest and the checkout, if anything does.
    pub(crate) fn outdated(&self, root: &Path) -> Result<Option<String>> {
        if sources(root)? != self.sources {
            return Ok(Some(
                "its sources have changed since it was built".to_owned(),
            ));
        }
        let object =
            fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
        let same = hex(Sha256::new().chain_update(&object)) == self.object;
        Ok((!same).then(|| format!("it is not the object that {MANIFEST} describes")))
    }
}

/// A hash over everything in the repository that the object is built from.
fn sources(root: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for dir in DIRS {
        list(root, Path::new(dir), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        // With their lengths, so that nothing can move from one file to the next unseen.
        let path = file.as_os_str().as_encoded_bytes();
        for part in [path, &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex(hash))
}

fn list(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(dir));
    for entry in entries.with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _written = write!(text, "{byte:02x}");
            text
        })
}

/// The committed object.
pub(crate) const OBJECT: &str = "ebpf/prebuilt/synflip.bpf.o";
const MANIFEST: &str = "ebpf/prebuilt/manifest.json";
const FILES: [&str; 4] = [
    "ebpf/.cargo/config.toml",
    "ebpf/Cargo.lock",
    "ebpf/Cargo.toml",
    "userspace/abi/Cargo.toml",
];
const DIRS: [&str; 2] = ["ebpf/src", "userspace/abi/src"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::root;

    #[test]
    fn the_committed_object_is_of_these_sources() {
        let outdated = Manifest::read(&root()).and_then(|manifest| manifest.outdated(&root()));
        if let Some(what) = outdated.expect("manifest and sources can be read") {
            panic!("{OBJECT} is outdated: {what}. Run `cargo xtask ebpf` and commit the result.");
        }
    }

    #[test]
    fn the_hash_depends_on_content_and_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |file: &str, content: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        };
        FILES.iter().for_each(|file| write(file, ""));
        DIRS.iter()
            .for_each(|dir| write(&format!("{dir}/a.rs"), "x"));
        let before = sources(dir.path()).expect("a hash");
        assert_eq!(sources(dir.path()).expect("a hash"), before);
        write("ebpf/src/a.rs~", "an editor's");
        assert_eq!(sources(dir.path()).expect("a hash"), before);
        write("ebpf/src/a.rs", "y");
        let changed = sources(dir.path()).expect("a hash");
        assert_ne!(changed, before);
        write("ebpf/src/a.rs", "x");
        fs::rename(
            dir.path().join("ebpf/src/a.rs"),
            dir.path().join("ebpf/src/b.rs"),
        )
        .expect("renamed");
        assert_ne!(sources(dir.path()).expect("a hash"), before);
    }
}
