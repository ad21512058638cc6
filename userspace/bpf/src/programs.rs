//! The programs of one service: a copy for each endpoint.

use std::{collections::BTreeMap, fs, io, os::fd::BorrowedFd, path::Path};

use aya::programs::SkReuseport;
use aya_log::EbpfLogger;

use crate::{BpfError, Object, Steering, Variant, pins};

/// The ring buffer of an object that logs (`aya-log-ebpf`).
const LOGS: &str = "AYA_LOGS";

/// The programs that have been attached.
pub(crate) struct Programs {
    object: Object,
    variant: Variant,
    loaded: BTreeMap<u32, SkReuseport>,
    /// What each program has to say, if the object is one that logs.
    logs: Vec<EbpfLogger<&'static dyn log::Log>>,
}

impl Programs {
    pub(crate) fn new(object: Object, variant: Variant) -> Self {
        Self {
            object,
            variant,
            loaded: BTreeMap::new(),
            logs: Vec::new(),
        }
    }

    /// Attaches an endpoint's program to the group of a listener; the maps that it uses are
    /// pinned in the directory.
    pub(crate) fn attach(
        &mut self,
        dir: &Path,
        endpoint: u32,
        listener: BorrowedFd<'_>,
    ) -> Result<(), BpfError> {
        let name = self.variant.name();
        let refused = |source| BpfError::Program {
            name,
            source: Box::new(source),
        };
        let program = match self.loaded.remove(&endpoint) {
            Some(program) => program,
            None => self.load(dir, endpoint)?,
        };
        let attached = program.attach(listener).map_err(refused);
        self.loaded.insert(endpoint, program);
        attached
    }

    /// Loads an endpoint's program and pins it, replacing the pin of an earlier agent.
    fn load(&mut self, dir: &Path, endpoint: u32) -> Result<SkReuseport, BpfError> {
        let path = dir.join(format!("program-{endpoint}"));
        let mut ebpf = self.object.open(endpoint, Some(dir))?;
        let program = self.variant.load(&mut ebpf)?;
        // Whatever is there: an earlier agent's program, most likely.
        if fs::symlink_metadata(&path).is_ok() {
            pins::remove(&path)?;
        }
        program.pin(&path).map_err(|error| BpfError::Pin {
            op: "pinning",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        if ebpf.map(LOGS).is_some() {
            let logger = EbpfLogger::init(&mut ebpf).map_err(|error| BpfError::Pin {
                op: "reading the log of",
                path: path.clone(),
                source: io::Error::other(error),
            })?;
            self.logs.push(logger);
        }
        // The loaded object is dropped; the pin is the program.
        SkReuseport::from_pin(&path, self.variant.attach_type()).map_err(|source| {
            BpfError::Program {
                name: self.variant.name(),
                source: Box::new(source),
            }
        })
    }

    fn id(&self, endpoint: u32) -> Option<u32> {
        let info = self.loaded.get(&endpoint)?.info().ok()?;
        Some(info.id())
    }

    /// Whether the programs log: the object was built with that feature.
    pub(crate) fn log(&self) -> bool {
        !self.logs.is_empty()
    }

    pub(crate) fn flush_logs(&mut self) {
        self.logs.iter_mut().for_each(EbpfLogger::flush);
    }
}

impl Steering {
    /// The number of the program that this agent has attached last to an endpoint's groups: the
    /// kernel has another one in [`Looked::program`](synflip_abi::Looked::program) if somebody has
    /// replaced it.
    pub fn program_id(&self, endpoint: u32) -> Option<u32> {
        self.programs.id(endpoint)
    }
}
