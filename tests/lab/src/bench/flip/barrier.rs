//! The bare grace period: one update of the same kind of map, which changes nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use synflip_bpf::{DEFAULT_BPFFS, Object, Publisher, Steering, probe};

/// Waits for grace periods, through maps of its own.
pub(super) struct Barrier {
    publisher: Publisher,
    steering: Option<Steering>,
    dir: PathBuf,
}

impl Barrier {
    pub(super) fn new() -> Result<Self> {
        synflip_bpf::prepare_bpffs(Path::new(DEFAULT_BPFFS))?;
        let object = Object::default();
        let variant = probe(&object)?.variant;
        let dir = Path::new(DEFAULT_BPFFS).join(format!("synflip-bench-{}", std::process::id()));
        let (steering, publisher) = Steering::open(dir.clone(), object, variant)?;
        Ok(Self {
            publisher,
            steering: Some(steering),
            dir,
        })
    }

    /// How long one takes, in milliseconds.
    pub(super) fn wait(&mut self) -> Result<f64> {
        Ok(self.publisher.barrier()?.as_secs_f64() * 1000.0)
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        drop(self.steering.take().map(Steering::unpin));
        // Only there still if that failed.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
