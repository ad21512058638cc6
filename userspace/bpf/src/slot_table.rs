//! Slot tables in the kernel: made, filled, pinned and found again.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError};
use synflip_abi::{ENTRY_WORDS, FIRST_SLOT, META, SlotEntry, TABLE_ENTRIES, TableEntry};

use crate::{BpfError, sys};

/// What a slot table is called in an error.
const NAME: &str = "a slot table";

/// How the name of a slot table's pin begins.
const PIN: &str = "table-";

/// A slot table: written once, before anybody can see it.
#[derive(Debug)]
pub(crate) struct SlotTable(pub(crate) MapData);

impl SlotTable {
    /// Makes a table of these words, each of whose slots means the listener with this cookie.
    pub(crate) fn new(words: &[u32], members: &[(u32, u64)]) -> Result<Self, BpfError> {
        let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
        let mut entries = entries.to_vec();
        let members: BTreeMap<u32, u64> = members.iter().copied().collect();
        for entry in entries.iter_mut().skip(FIRST_SLOT as usize) {
            let slot = SlotEntry::unpack(*entry).slot;
            if let Some(&cookie) = members.get(&slot) {
                *entry = SlotEntry { slot, cookie }.pack();
            }
        }
        let failed = |error| BpfError::map("filling", NAME)(MapError::IoError(error));
        let value_size = u32::try_from(size_of::<TableEntry>()).unwrap_or(0);
        let fd = sys::create_array(value_size, TABLE_ENTRIES).map_err(failed)?;
        if !entries.is_empty() {
            sys::fill(fd.as_fd(), &entries).map_err(failed)?;
        }
        let data = MapData::from_fd(fd);
        data.map(Self).map_err(BpfError::map("opening", NAME))
    }

    /// The words of a table that was found.
    pub(crate) fn words(&self) -> Result<Vec<u32>, BpfError> {
        let entries = sys::read::<TableEntry>(self.0.fd().as_fd(), TABLE_ENTRIES);
        let failed = |error| BpfError::map("reading", NAME)(MapError::IoError(error));
        Ok(entries.map_err(failed)?.into_flattened())
    }

    /// Pins the table in a service's directory, so that an agent that comes after can open it.
    /// To open a map by its number takes CAP_SYS_ADMIN ([`bpf_map_get_fd_by_id`], 5.10 to 7.3).
    ///
    /// [`bpf_map_get_fd_by_id`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/syscall.c
    pub(crate) fn pin(&self, dir: &Path, words: &[u32]) -> Result<PathBuf, BpfError> {
        let epoch = words.get(META as usize * ENTRY_WORDS + 1).unwrap_or(&0);
        let free = |path: &PathBuf| !path.exists();
        let mut paths = (0_u32..).map(|n| dir.join(format!("{PIN}{epoch}-{n}")));
        let path = paths.find(free).unwrap_or_else(|| dir.join(PIN));
        let pinned = self.0.pin(&path);
        pinned.map_err(|error| BpfError::Pin {
            op: "pinning",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        Ok(path)
    }

    /// The table with this number, if it is pinned in a service's directory; by its number
    /// otherwise, which needs CAP_SYS_ADMIN.
    pub(crate) fn find(dir: &Path, id: u32) -> Result<Self, BpfError> {
        let is_it = |data: &MapData| data.info().is_ok_and(|info| info.id() == id);
        let pinned = pins(dir).into_iter().find_map(|path| {
            let data = MapData::from_pin(path).ok()?;
            is_it(&data).then_some(data)
        });
        let found = pinned.map_or_else(|| MapData::from_id(id), Ok);
        let found = found.map_err(BpfError::map("opening", NAME))?;
        let info = found.info().map_err(BpfError::map("inspecting", NAME))?;
        let is_ours = info.value_size() as usize == size_of::<TableEntry>()
            && info.max_entries() == TABLE_ENTRIES;
        if is_ours {
            Ok(Self(found))
        } else {
            Err(BpfError::Foreign { name: NAME })
        }
    }
}

/// Removes the pins of all tables but this one, which nobody needs any more. What cannot be
/// removed is tried again after the next publication.
pub(crate) fn unpin_others(dir: &Path, published: &Path) {
    for path in pins(dir).iter().filter(|path| *path != published) {
        drop(fs::remove_file(path));
    }
}

fn pins(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_table = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PIN))
    };
    entries.filter(is_table).collect()
}
