//! What this kernel and this process can do.

use std::{fmt, io};

use aya::programs::ProgramError;
use rustix::thread::{CapabilitySet, capabilities};

use crate::{BpfError, Object, Variant};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The program to use.
    pub variant: Variant,
}

/// A privilege that the agent needs, or can make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Loading programs, making and changing maps. Required.
    Bpf,
    /// Finding out which network namespace a listener is in (`SIOCGSKNS`). Required.
    NetAdmin,
    /// Loading the iterator of [`Looker`](crate::Looker), which stays pinned: once after each boot.
    PerfMon,
    /// Entering that namespace if it is not the agent's own: needed for containers. Once, for
    /// carrying services over from version 2.
    SysAdmin,
}

impl Privilege {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bpf, Self::NetAdmin, Self::PerfMon, Self::SysAdmin];

    /// Whether this process has it.
    pub fn is_held(self) -> bool {
        let wanted = match self {
            Self::Bpf => CapabilitySet::BPF | CapabilitySet::SYS_ADMIN,
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::PerfMon => CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
        };
        // Before 5.8 there was no CAP_BPF; CAP_SYS_ADMIN still implies it.
        capabilities(None).is_ok_and(|held| held.effective.intersects(wanted))
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::PerfMon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        })
    }
}

/// Finds out which variant of the program the kernel takes, by loading it.
///
/// A sysctl or the attach type prove nothing: 5.10 has `tcp_migrate_req` and accepts
/// `SELECT_OR_MIGRATE`, and does neither. Its verifier does refuse the `migrating_sk` that the
/// program reads (`sk_reuseport_is_valid_access`).
///
/// # Errors
/// When the kernel takes neither, which mostly means that a privilege is missing.
pub fn probe(object: &Object) -> Result<Probe, BpfError> {
    let mut ebpf = object.open(0, None)?;
    match Variant::SelectOrMigrate.load(&mut ebpf) {
        Ok(_) => {
            return Ok(Probe {
                variant: Variant::SelectOrMigrate,
            });
        }
        Err(BpfError::Program { source, .. }) if is_verdict(&source) => {}
        Err(error) => return Err(error),
    }
    Variant::Select.load(&mut ebpf)?;
    Ok(Probe {
        variant: Variant::Select,
    })
}

/// Whether the verifier said no, rather than that it was not to be asked.
fn is_verdict(error: &ProgramError) -> bool {
    match error {
        ProgramError::LoadError { io_error, .. } => {
            io_error.kind() != io::ErrorKind::PermissionDenied
                || io_error.raw_os_error() == Some(libc::EACCES)
        }
        _ => false,
    }
}
