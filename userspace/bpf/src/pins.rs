//! What is pinned: whether it is of our making, and whether anybody still needs it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use synflip_abi::{
    ASKED, COUNTER_WORDS, COUNTERS, LISTENERS, MAX_ENDPOINTS, MAX_MOMENTS, MAX_SLOTS, MEMBERS,
    Member, Moment, OUTCOME_WORDS, OUTCOMES, PAST, PAST_WORDS, SOCKETS, TABLES, TABLES_LEN,
    TIMELINE,
};

use crate::{BpfError, bpffs, object::MAPS, sockets::Sockets};

/// What a map of this version is like; every key is a u32.
#[derive(Clone, Copy, Debug)]
struct Definition {
    name: &'static str,
    kind: MapType,
    value: usize,
    entries: u32,
}

const fn map(name: &'static str, kind: MapType, value: usize, entries: u32) -> Definition {
    Definition {
        name,
        kind,
        value,
        entries,
    }
}

const DEFINITIONS: [Definition; MAPS.len()] = [
    map(TABLES, MapType::ArrayOfMaps, 4, TABLES_LEN),
    map(SOCKETS, MapType::ReuseportSockArray, 8, MAX_SLOTS),
    map(MEMBERS, MapType::Array, 8 * Member::WORDS, MAX_SLOTS),
    map(COUNTERS, MapType::PerCpuArray, 8 * COUNTER_WORDS, MAX_SLOTS),
    map(
        OUTCOMES,
        MapType::PerCpuArray,
        8 * OUTCOME_WORDS,
        MAX_ENDPOINTS,
    ),
    map(PAST, MapType::Array, 8 * PAST_WORDS, MAX_ENDPOINTS),
    map(ASKED, MapType::Array, 4, MAX_ENDPOINTS),
    map(TIMELINE, MapType::Array, 8 * Moment::WORDS, MAX_MOMENTS),
    map(LISTENERS, MapType::SkStorage, 4, 0),
];

impl Definition {
    fn is_of(&self, info: &MapInfo) -> bool {
        let kind = info.map_type().is_ok_and(|kind| kind == self.kind);
        // The sockets are the only map that goes from one version to the next: one of them had
        // fewer.
        let entries = match self.name {
            SOCKETS => (1..=self.entries).contains(&info.max_entries()),
            _ => info.max_entries() == self.entries,
        };
        kind && entries && info.key_size() == 4 && info.value_size() as usize == self.value
    }
}

/// Compares what is pinned in a service's directory with what this version makes: pinned maps are
/// opened by name, whatever they are. What is not pinned yet is no fault.
///
/// # Errors
/// [`BpfError::Foreign`] for the first one that is something else.
pub(crate) fn check(dir: &Path) -> Result<(), BpfError> {
    for definition in &DEFINITIONS {
        let (name, path) = (definition.name, dir.join(definition.name));
        // Not what a symlink points to: only what is pinned here is ours.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(BpfError::Foreign { name }),
            Err(source) => {
                return Err(BpfError::Pin {
                    op: "inspecting",
                    path,
                    source,
                });
            }
        }
        match MapInfo::from_pin(&path) {
            Ok(info) if definition.is_of(&info) => {}
            Err(error) if this_process_lacks_means(&error) => {
                return Err(BpfError::map("inspecting", name)(error));
            }
            Ok(_) | Err(_) => return Err(BpfError::Foreign { name }),
        }
    }
    Ok(())
}

/// Whether a map could not be opened because this process lacks a privilege, memory or descriptors:
/// that says nothing about the map.
fn this_process_lacks_means(error: &MapError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let own = [
                io::ErrorKind::PermissionDenied,
                io::ErrorKind::OutOfMemory,
                io::ErrorKind::QuotaExceeded,
            ];
            return own.contains(&error.kind()) || error.raw_os_error() == Some(libc::EMFILE);
        }
        cause = error.source();
    }
    false
}

/// A service's pins that an agent of another version has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its directory.
    pub dir: PathBuf,
    /// How many of its listeners are open; none if that cannot be told.
    pub open: Option<u32>,
}

/// What agents of other versions have left. What cannot be listed is left out.
pub fn leftovers(bpffs: &Path) -> Vec<Leftover> {
    let versions = bpffs::versions(bpffs).into_iter();
    let services = versions.filter(|version| *version != bpffs::root(bpffs));
    let services = services.flat_map(|version| bpffs::found(&version).unwrap_or_default());
    let services = services.filter(|found| !is_carried_over(bpffs, &found.pins));
    services
        .map(|found| Leftover {
            open: match found.service {
                Some(_) => open_listeners(&found.pins),
                // Whatever it is, no listener needs it.
                None => Some(0),
            },
            dir: found.pins,
        })
        .collect()
}

/// Whether the sockets in another version's pins are this version's as well.
fn is_carried_over(bpffs: &Path, other: &Path) -> bool {
    let id = |dir: &Path| sockets_of(dir)?.0.0.info().ok().map(|info| info.id());
    let own = other.file_name().map(|name| bpffs::root(bpffs).join(name));
    own.is_some_and(|own| own.exists() && id(other).is_some_and(|its| id(&own) == Some(its)))
}

/// How many of a service's listeners are open, if its sockets are in a map as this version's are.
pub(crate) fn open_listeners(dir: &Path) -> Option<u32> {
    if !dir.join(SOCKETS).exists() {
        // Without it none can be found again.
        return Some(0);
    }
    let (sockets, slots) = sockets_of(dir)?;
    let mut open = 0;
    for slot in 0..slots {
        open += u32::from(sockets.cookie(slot).ok()?.is_some());
    }
    Some(open)
}

/// A service's sockets, and how many slots they have.
pub(crate) fn sockets_of(dir: &Path) -> Option<(Sockets, u32)> {
    let data = MapData::from_pin(dir.join(SOCKETS)).ok()?;
    let info = data.info().ok()?;
    let kind = info.map_type().ok()?;
    let as_ours = (MapType::ReuseportSockArray, 4, 8);
    ((kind, info.key_size(), info.value_size()) == as_ours)
        .then(|| (Sockets(data), info.max_entries()))
}

/// Takes a listener out of the socket array of another version: the kernel has a listener in one
/// array only. True if it was in one, and is not any more.
///
/// With its last listener that version's pins are removed.
pub(crate) fn take_out_of_other_version(dir: &Path, cookie: u64) -> bool {
    let (Some(service), Some(bpffs)) = (dir.file_name(), dir.ancestors().nth(3)) else {
        return false;
    };
    let others = bpffs::versions(bpffs).into_iter();
    let others = others.map(|version| version.join(service));
    let others = others.filter(|other| other != dir && !is_carried_over(bpffs, other));
    for other in others {
        let Some((sockets, slots)) = sockets_of(&other) else {
            continue;
        };
        let holds = |slot: &u32| matches!(sockets.cookie(*slot), Ok(Some(its)) if its == cookie);
        let Some(slot) = (0..slots).find(holds) else {
            continue;
        };
        let is_out = sockets.clear(slot).is_ok();
        if open_listeners(&other) == Some(0) {
            // What is left is cleaned up by the next agent that starts.
            drop(remove(&other));
        }
        return is_out;
    }
    false
}

/// Removes a service's pins, or whatever has been pinned in its place. What is attached stays
/// attached: the kernel holds it by itself.
///
/// # Errors
/// [`BpfError::Pin`] if something is left.
pub fn remove(pins: &Path) -> Result<(), BpfError> {
    if fs::symlink_metadata(pins).is_ok_and(|metadata| metadata.is_dir()) {
        bpffs::remove_dir(pins)
    } else {
        fs::remove_file(pins).map_err(|source| BpfError::Pin {
            op: "removing",
            path: pins.into(),
            source,
        })
    }
}
