//! The BPF object, and which of its two programs a kernel takes.

use std::{
    borrow::Cow,
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError},
    programs::{SkReuseport, sk_reuseport::SkReuseportAttachType},
};
use synflip_abi::{
    ASKED, COUNTERS, ENDPOINT, FILE_COUNT_FROM, LISTENERS, MAX_ENDPOINTS, MEMBERS, OFFSETS,
    OUTCOMES, PAST, SOCKETS, TABLES, TIMELINE,
};

use crate::{BpfError, looker::Layout, sys};

static BUILT_IN: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/synflip.bpf.o");

/// Making a loader reads all types of the kernel, which are needed for nothing here: 5 MB, and 20
/// MiB as long as it takes. So there is one, which is used again.
static LOADER: Mutex<Option<EbpfLoader<'static>>> = Mutex::new(None);

/// Every endpoint's number: the loader borrows what it writes into the object.
static IDS: [u32; MAX_ENDPOINTS as usize] = {
    let mut ids = [0; MAX_ENDPOINTS as usize];
    let mut id = 0;
    while id < MAX_ENDPOINTS {
        ids[id as usize] = id;
        id += 1;
    }
    ids
};

/// Every map of the object, all of which are pinned.
pub const MAPS: [&str; 9] = [
    TABLES, SOCKETS, MEMBERS, COUNTERS, OUTCOMES, PAST, ASKED, TIMELINE, LISTENERS,
];

/// A compiled BPF object.
#[derive(Clone, Debug)]
pub struct Object(Cow<'static, [u8]>);

impl Default for Object {
    /// The one that this crate was built with.
    fn default() -> Self {
        Self(Cow::Borrowed(BUILT_IN))
    }
}

impl Object {
    /// Another build of the object, such as one that logs.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }

    /// Loads the maps and one endpoint's copy of the programs, neither verified nor attached.
    ///
    /// With a directory the maps are the ones pinned there, whatever their definition: a service's
    /// `SOCKETS` may have been begun by an earlier version, with fewer slots. Those that are not
    /// pinned yet are created.
    pub(crate) fn open(&self, endpoint: u32, pins: Option<&Path>) -> Result<Ebpf, BpfError> {
        let endpoint = usize::try_from(endpoint).ok().and_then(|e| IDS.get(e));
        let endpoint = endpoint.ok_or(BpfError::Foreign { name: ENDPOINT })?;
        let mut kept = LOADER.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.is_none() {
            // A loader cannot be told to pin no more.
            *kept = None;
        }
        let loader = kept.get_or_insert_with(|| {
            let mut loader = EbpfLoader::new();
            // Nothing is relocated against the kernel's own types.
            loader.btf(None);
            sys::trim_heap();
            loader
        });
        loader.override_global(ENDPOINT, endpoint, true);
        for map in MAPS {
            if let Some(dir) = pins {
                loader.map_pin_path(map, dir.join(map));
            }
        }
        let loaded = loader.load(&self.0);
        loaded.map_err(|error| BpfError::Load(Box::new(error)))
    }

    /// Loads the iterator, not verified yet, and maps that are nobody's.
    pub(crate) fn open_iterator(&self, layout: &Layout) -> Result<Ebpf, BpfError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader.override_global(OFFSETS, layout.offsets.as_slice(), true);
        loader.override_global(FILE_COUNT_FROM, &layout.file_count_from, true);
        let loaded = loader.load(&self.0);
        loaded.map_err(|error| BpfError::Load(Box::new(error)))
    }
}

/// Takes a map out of the loaded object.
pub(crate) fn data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, BpfError> {
    match ebpf.take_map(name) {
        Some(
            Map::Array(data)
            | Map::ArrayOfMaps(data)
            | Map::PerCpuArray(data)
            | Map::ReusePortSockArray(data),
        ) => Ok(data),
        _ => Err(BpfError::Foreign { name }),
    }
}

/// Gives a map the type it is used as.
pub(crate) fn typed<T: TryFrom<Map, Error = MapError>>(
    data: MapData,
    name: &'static str,
) -> Result<T, BpfError> {
    Map::from_map_data(data)
        .and_then(T::try_from)
        .map_err(BpfError::map("opening", name))
}

/// Which of the two programs is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Selects a listener for a new connection.
    Select,
    /// Also selects one for the requests of a listener that closes (5.14 and later).
    SelectOrMigrate,
}

impl Variant {
    /// The program's name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::SelectOrMigrate => "select_or_migrate",
        }
    }

    /// Has the kernel verify the program of a loaded object.
    pub(crate) fn load(self, ebpf: &mut Ebpf) -> Result<&mut SkReuseport, BpfError> {
        let name = self.name();
        let program = ebpf.program_mut(name).ok_or(BpfError::Foreign { name })?;
        let refused = |source| BpfError::Program {
            name,
            source: Box::new(source),
        };
        let program: &mut SkReuseport = program.try_into().map_err(refused)?;
        program.load().map_err(refused)?;
        Ok(program)
    }

    pub(crate) const fn attach_type(self) -> SkReuseportAttachType {
        match self {
            Self::Select => SkReuseportAttachType::Select,
            Self::SelectOrMigrate => SkReuseportAttachType::SelectOrMigrate,
        }
    }
}
