//! Where does a test keep its pins? In a directory of bpffs that nobody else uses.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, Result};

/// A directory for pins, removed when dropped.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When there is no bpffs.
    pub fn new() -> Result<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Relaxed);
        let bpffs = Path::new(synflip_bpf::DEFAULT_BPFFS);
        synflip_bpf::prepare_bpffs(bpffs)?;
        let dir = bpffs.join(format!("synflip-test-{}-{number}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Best effort: a test that fails must still show its own error.
        drop(fs::remove_dir_all(&self.0));
    }
}
