//! What the operator can choose.

use std::{path::PathBuf, time::Duration};

use synflip_bpf::Object;

/// How the agent is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The control socket.
    pub socket: PathBuf,
    /// The BPF file system to pin maps on.
    pub bpffs: PathBuf,
    /// How long a service whose processes are all gone is held open for a successor.
    pub hold: Duration,
    /// The BPF object to load.
    pub object: Object,
    /// Keep a drained listener open where closing it would lose SYNs. Only a test that shows why
    /// turns this off.
    pub tombstones: bool,
}

impl Config {
    /// Default of [`Self::hold`], in seconds.
    pub const HOLD_SECS: u64 = 30;
}
