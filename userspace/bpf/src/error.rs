//! What can go wrong in the kernel's BPF subsystem.

use std::{io, path::PathBuf};

/// A failure; nothing that new connections follow has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The BPF file system is not there and could not be mounted.
    #[error(
        "{path} is not a BPF file system and could not be made one; as root: mount -t bpf bpf {path}"
    )]
    NoBpffs {
        /// Where it should be.
        path: PathBuf,
        /// Why it could not be mounted.
        #[source]
        source: io::Error,
    },
    /// A file or directory on the BPF file system could not be made or removed.
    #[error("{op} {path} failed")]
    Pin {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("loading the BPF object failed (it needs CAP_BPF)")]
    Load(#[source] Box<aya::EbpfError>),
    /// The object lacks a part, or a pinned map is not the one this version makes.
    #[error(
        "{name} in the BPF object or among the pinned maps is not what this version expects; remove the pins of a service that is not in use"
    )]
    Foreign {
        /// The map's or program's name.
        name: &'static str,
    },
    /// A program was refused.
    #[error("the kernel refused the program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map operation failed.
    #[error("{op} the map {map} failed")]
    Map {
        /// What was tried.
        op: &'static str,
        /// On which map.
        map: &'static str,
        /// Why it failed.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// Putting a listener into its slot, or taking it out, failed.
    #[error("{op} slot {slot} failed")]
    Slot {
        /// What was tried.
        op: &'static str,
        /// The slot.
        slot: u32,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Listeners cannot be looked at by the iterator.
    #[error("{op} the iterator over listeners failed")]
    Look {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel has not what the iterator reads.
    #[error("this kernel has no {path} in its {structure}")]
    NoField {
        /// In which structure.
        structure: &'static str,
        /// Which field.
        path: &'static str,
    },
    /// A service of version 2 cannot be carried over for want of a privilege.
    #[error(
        "which table an agent of version 2 has published for {path} cannot be read without \
         CAP_SYS_ADMIN; start the agent with it once"
    )]
    OldTable {
        /// Its pins.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A slot does not hold the listener that the new table means by it.
    #[error(
        "the listener in slot {slot} is gone: it was closed or shut down; if it listens again, \
         its server has to register it again"
    )]
    ListenerGone {
        /// The slot.
        slot: u32,
    },
}

impl BpfError {
    /// Whether a socket array has the listener already.
    pub(crate) fn is_busy(&self) -> bool {
        let Self::Slot { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::ResourceBusy
    }

    pub(crate) fn map(
        op: &'static str,
        map: &'static str,
    ) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            op,
            map,
            source: Box::new(source),
        }
    }
}
