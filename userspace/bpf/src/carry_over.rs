//! Taking a service over from version 2 while it works.
//!
//! Its sockets stay where they are: both versions pin the same `SOCKETS`, so no listener leaves
//! its slot. All else is made anew, with the same slots, generations, names and table.
//!
//! The groups run the old program until the new one is attached to them, for which somebody has
//! to have one of their listeners. Until then a table is published for both programs, so it does
//! not matter when that is, and an agent that ends in between, whatever its version, finds what it
//! needs. The old pins are removed when the new program is on the group of each endpoint.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use aya::maps::{Array, MapData, MapError, MapType, PerCpuArray};
use synflip_abi::{
    COUNTERS, FELL_BACK, MAX_ENDPOINTS, MEMBERS, MIGRATED, NO_TABLE, OUTCOMES, PAST_MIGRATED,
    PAST_SELECTED, PAST_WORDS, PUBLISHED, SELECTED, SOCKETS, TABLES, TABLES_LEN,
};

use crate::{
    BpfError, Object, Steering, Variant, bpffs, counters::sum, object::typed, pins,
    sockets::Sockets, sys, v2,
};

/// How the name of a directory begins in which a service is being made ready: no service's does.
const UNFINISHED: &str = "%carry-";

/// A service that has been carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedOver {
    /// Its name.
    pub service: String,
    /// Where its pins are now.
    pub pins: PathBuf,
    /// How many of its listeners are open.
    pub listeners: usize,
}

/// Carries the services of version 2 over that have an open listener, and are not yet.
///
/// What becomes of each: a service that cannot be carried over is left as it is, and new
/// connections to it go where they did. Reading the table that the old agent has published needs
/// CAP_SYS_ADMIN, this once.
pub fn carry_over(
    bpffs: &Path,
    object: &Object,
    variant: Variant,
) -> Vec<(PathBuf, Result<CarriedOver, BpfError>)> {
    let root = bpffs::root(bpffs);
    let old = root.with_file_name(v2::DIR);
    let found = bpffs::found(&old).unwrap_or_default().into_iter();
    let services = found.filter_map(|found| Some((found.service?, found.pins)));
    services
        .filter_map(|(service, old)| {
            let done = from_v2(&root, &service, &old, object, variant).transpose()?;
            Some((old, done))
        })
        .collect()
}

/// Carries one service over; none if there is nothing to carry, or this version has it already.
fn from_v2(
    root: &Path,
    service: &str,
    old: &Path,
    object: &Object,
    variant: Variant,
) -> Result<Option<CarriedOver>, BpfError> {
    let Some(name) = old.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let new = root.join(name);
    if new.exists() || pins::open_listeners(old).is_none_or(|open| open == 0) {
        return Ok(None);
    }
    let found = OldMaps::open(old)?;
    let unfinished = root.join(format!("{UNFINISHED}{name}"));
    bpffs::remove_dir(&unfinished)?;
    bpffs::create_dir(&unfinished)?;
    let made = found.make(old, &unfinished, object, variant);
    let made = made.and_then(|listeners| {
        fs::rename(&unfinished, &new).map_err(pin("renaming", &unfinished))?;
        Ok(CarriedOver {
            service: service.into(),
            pins: new,
            listeners,
        })
    });
    if made.is_err() {
        // The next agent that starts would do it.
        drop(bpffs::remove_dir(&unfinished));
    }
    made.map(Some)
}

/// The maps of version 2.
struct OldMaps {
    tables: MapData,
    sockets: Sockets,
    members: Array<MapData, [u64; v2::MEMBER_WORDS]>,
    counters: PerCpuArray<MapData, [u64; v2::COUNTER_WORDS]>,
    outcomes: PerCpuArray<MapData, [u64; v2::OUTCOME_WORDS]>,
}

impl OldMaps {
    fn open(dir: &Path) -> Result<Self, BpfError> {
        let map = |name, kind, value: usize, entries| {
            let path = dir.join(name);
            let metadata = fs::symlink_metadata(&path).map_err(pin("inspecting", &path))?;
            let data = match metadata.is_file() {
                true => MapData::from_pin(path).map_err(BpfError::map("opening", name))?,
                false => return Err(BpfError::Foreign { name }),
            };
            let info = data.info().map_err(BpfError::map("inspecting", name))?;
            let found = (
                info.key_size(),
                info.value_size() as usize,
                info.max_entries(),
            );
            // The sockets may have been begun by yet another version.
            let entries = if name == SOCKETS { found.2 } else { entries };
            if info.map_type().ok() == Some(kind) && found == (4, value, entries) {
                Ok(data)
            } else {
                Err(BpfError::Foreign { name })
            }
        };
        let slots = v2::MAX_SLOTS;
        let members = map(MEMBERS, MapType::Array, 8 * v2::MEMBER_WORDS, slots)?;
        let counters = map(COUNTERS, MapType::PerCpuArray, 8 * v2::COUNTER_WORDS, slots)?;
        let size = 8 * v2::OUTCOME_WORDS;
        let outcomes = map(OUTCOMES, MapType::PerCpuArray, size, MAX_ENDPOINTS)?;
        Ok(Self {
            tables: map(TABLES, MapType::ArrayOfMaps, 4, TABLES_LEN)?,
            sockets: Sockets(map(SOCKETS, MapType::ReuseportSockArray, 8, slots)?),
            members: typed(members, MEMBERS)?,
            counters: typed(counters, COUNTERS)?,
            outcomes: typed(outcomes, OUTCOMES)?,
        })
    }

    /// Makes and fills this version's maps in a directory, and returns how many listeners are
    /// open.
    fn make(
        &self,
        old: &Path,
        dir: &Path,
        object: &Object,
        variant: Variant,
    ) -> Result<usize, BpfError> {
        let path = dir.join(SOCKETS);
        let pinned = self.sockets.0.pin(&path);
        pinned.map_err(|error| pin("pinning", &path)(io::Error::other(error)))?;
        let (mut steering, mut publisher) = Steering::open(dir.into(), object.clone(), variant)?;
        let mut cookies = Vec::new();
        let mut given = vec![[0; v2::COUNTER_WORDS]; MAX_ENDPOINTS as usize];
        for slot in 0..v2::MAX_SLOTS {
            let words = self.members.get(&slot, 0);
            let member = v2::member(&words.map_err(BpfError::map("reading", MEMBERS))?);
            let cookie = self.sockets.cookie(slot)?;
            let (Some(member), Some(cookie)) = (member, cookie) else {
                continue;
            };
            if member.cookie != cookie {
                continue;
            }
            let counted = self.counters.get(&slot, 0);
            let counted = sum(&counted.map_err(BpfError::map("reading", COUNTERS))?);
            steering.note(slot, Some(&member))?;
            steering.counters.set(slot, counted)?;
            cookies.push((slot, cookie));
            if let Some(given) = given.get_mut(member.endpoint as usize) {
                given
                    .iter_mut()
                    .zip(counted)
                    .for_each(|(sum, word)| *sum += word);
            }
        }
        for (endpoint, given) in (0..).zip(given) {
            let words = self.outcomes.get(&endpoint, 0);
            let [_, selected, migrated, no_table, fell_back] =
                sum(&words.map_err(BpfError::map("reading", OUTCOMES))?);
            let mut past = [0; PAST_WORDS];
            past[PAST_SELECTED] = selected.saturating_sub(given[SELECTED]);
            past[PAST_MIGRATED] = migrated.saturating_sub(given[MIGRATED]);
            steering.counters.set_past(endpoint, past)?;
            let mut outcomes = [0; synflip_abi::OUTCOME_WORDS];
            (outcomes[NO_TABLE], outcomes[FELL_BACK]) = (no_table, fell_back);
            steering.counters.set_outcomes(endpoint, outcomes)?;
        }
        if let Some(words) = self.published(old)? {
            publisher.publish(&words, &cookies)?;
        }
        Ok(cookies.len())
    }

    /// The words of this version's table that says what the published one does.
    fn published(&self, dir: &Path) -> Result<Option<Vec<u32>>, BpfError> {
        let id: u32 = match sys::lookup(self.tables.fd().as_fd(), PUBLISHED) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BpfError::map("reading", TABLES)(MapError::IoError(error))),
        };
        let table = MapData::from_id(id).map_err(|source| BpfError::OldTable {
            path: dir.into(),
            source: Box::new(source),
        })?;
        let words = sys::read(table.fd().as_fd(), v2::TABLE_WORDS);
        let failed = |error| BpfError::map("reading", "a slot table")(MapError::IoError(error));
        let info = table.info().map_err(BpfError::map("inspecting", TABLES))?;
        let foreign = BpfError::Foreign { name: TABLES };
        if (info.value_size(), info.max_entries()) != (4, v2::TABLE_WORDS) {
            return Err(foreign);
        }
        let words: Vec<u32> = words.map_err(failed)?;
        v2::upgraded(&words).ok_or(foreign).map(Some)
    }
}

/// A service that is being carried over: its groups may run the old program still.
#[derive(Debug)]
pub(crate) struct Carrying {
    /// Where the old pins are.
    old: PathBuf,
    tables: MapData,
    /// The endpoints whose groups may run the old program.
    waiting: Mutex<Vec<u32>>,
    over: AtomicBool,
}

impl Carrying {
    /// Looks whether the service whose pins these are has old ones as well, with the same sockets;
    /// `endpoints` are those that it has open listeners on.
    pub(crate) fn find(dir: &Path, sockets: &Sockets, endpoints: Vec<u32>) -> Option<Self> {
        let name = dir.file_name()?;
        let old = dir.parent()?.with_file_name(v2::DIR).join(name);
        let (theirs, _) = pins::sockets_of(&old)?;
        if theirs.0.info().ok()?.id() != sockets.0.info().ok()?.id() {
            return None;
        }
        let tables = OldMaps::open(&old).ok()?.tables;
        Some(Self {
            old,
            tables,
            waiting: Mutex::new(endpoints),
            over: AtomicBool::new(false),
        })
    }

    /// Publishes what the new table says for the old program as well.
    pub(crate) fn publish(&self, words: &[u32]) -> Result<(), BpfError> {
        if self.over.load(Relaxed) {
            return Ok(());
        }
        let failed = |op| move |error| BpfError::map(op, TABLES)(MapError::IoError(error));
        let words = v2::downgraded(words).ok_or(BpfError::Foreign { name: TABLES })?;
        let table = sys::create_array(4, v2::TABLE_WORDS).map_err(failed("making a table for"))?;
        sys::fill(table.as_fd(), &words).map_err(failed("filling a table for"))?;
        let fd = table.as_raw_fd().cast_unsigned();
        sys::update(self.tables.fd().as_fd(), PUBLISHED, fd).map_err(failed("updating"))
    }

    /// An endpoint's group runs the new program, or has no listener left. With the last of them the
    /// old pins are removed.
    pub(crate) fn runs_new_program(&self, endpoint: u32) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| *other != endpoint);
        if waiting.is_empty() {
            self.remove_old_pins();
        }
    }

    /// No group runs the old program any more: removes its pins.
    pub(crate) fn remove_old_pins(&self) {
        if !self.over.swap(true, Relaxed) {
            // What is left is cleaned up by the next agent that starts.
            drop(bpffs::remove_dir(&self.old));
        }
    }
}

fn pin(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BpfError {
    let path = path.to_owned();
    move |source| BpfError::Pin { op, path, source }
}
