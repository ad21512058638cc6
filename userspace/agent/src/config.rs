//! What the operator can choose.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use synflip_bpf::{Object, Variant};

use crate::DieAt;

/// How the agent is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The control socket.
    pub socket: PathBuf,
    /// The BPF file system to pin maps on.
    pub bpffs: PathBuf,
    /// Where to answer scrapes for metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How long a service whose processes are all gone is held open for a successor.
    pub hold: Duration,
    /// The BPF object to load.
    pub object: Object,
    /// Keep a drained listener open where closing it would lose SYNs. Only a test that shows why
    /// turns this off.
    pub tombstones: bool,
    /// Have the kernel move what is pending on a listener that closes, if it can. Tests turn this
    /// off to be on a kernel before 5.14.
    pub migration: bool,
    /// Where to die, as if killed. Only tests of what follows ask for it.
    pub die_at: Option<DieAt>,
}

impl Config {
    /// Default of [`Self::hold`], in seconds.
    pub const HOLD_SECS: u64 = 30;

    /// The program to use on a kernel that takes `best`.
    pub(crate) const fn variant(&self, best: Variant) -> Variant {
        if self.migration {
            best
        } else {
            Variant::Select
        }
    }
}
