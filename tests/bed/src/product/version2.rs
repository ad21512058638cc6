//! What does an agent of version 2 (0.1.0) leave in the kernel? Written as commit 5715181 wrote it.

use std::{
    fs,
    net::IpAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, MapData, MapError},
    programs::SkReuseport,
};
use synflip_abi::{
    ENTRY_WORDS, MAX_ENDPOINTS, META, Member, SOCKETS, Share, SlotEntry, Span, TableEntry,
};
use synflip_bpf::{Object, Steering, Variant, service_dir};

/// That commit's object.
static OBJECT: &[u8] = aya::include_bytes_aligned!("version2.bpf.o");

/// Slots, and words of a slot table: 16 spans, the slots, the generation and the epoch.
const SLOTS: u32 = 1024;
const TABLE_WORDS: u32 = 16 + SLOTS + 2;

/// A service's pins as version 2 makes them.
pub struct Version2 {
    dir: PathBuf,
    members: Array<MapData, [u64; 12]>,
    tables: ArrayOfMaps<MapData, Array<MapData, u32>>,
}

impl std::fmt::Debug for Version2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Version2").field(&self.dir).finish()
    }
}

impl Version2 {
    /// Where the pins of a service are.
    pub fn dir(bpffs: &Path, service: &str) -> PathBuf {
        bpffs.join("synflip").join("v2").join(service)
    }

    /// Makes the pins of a service.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new(bpffs: &Path, service: &str) -> Result<Self> {
        let dir = Self::dir(bpffs, service);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Self::open(dir)
    }

    fn open(dir: PathBuf) -> Result<Self> {
        let mut ebpf = load(&dir, 0)?;
        Ok(Self {
            members: map(&mut ebpf, "MEMBERS")?,
            tables: map(&mut ebpf, "TABLES")?,
            dir,
        })
    }

    /// Makes a service of this version that no agent has open one that version 2 has left, but for
    /// the program on its groups.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn downgrade(bpffs: &Path, service: &str) -> Result<()> {
        let new = service_dir(bpffs, service);
        let (steering, publisher) =
            Steering::open(new.clone(), Object::default(), Variant::Select)?;
        let dir = Self::dir(bpffs, service);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        // The same sockets: a listener can be in one map only.
        MapData::from_pin(new.join(SOCKETS))?.pin(dir.join(SOCKETS))?;
        let mut old = Self::open(dir)?;
        for slot in 0..SLOTS {
            if let (Some(member), _) = steering.member(slot)? {
                old.note(slot, &member)?;
            }
        }
        if let Some(words) = publisher.published()? {
            let entries = words.as_chunks::<ENTRY_WORDS>().0;
            let lists: Vec<Vec<u32>> = (0..MAX_ENDPOINTS)
                .map(|endpoint| slots(entries, endpoint))
                .collect();
            let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
            let [generation, epoch, ..] = entries[META as usize];
            old.publish(&lists, generation, epoch)?;
        }
        drop((steering, publisher));
        fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))
    }

    /// Notes something of a slot.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn note(&mut self, slot: u32, member: &Member) -> Result<()> {
        Ok(self.members.set(slot, packed(member), 0)?)
    }

    /// Puts a listener into a slot.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn fill(&self, slot: u32, listener: impl AsFd) -> Result<()> {
        // aya does not know of values that are 64 bits wide; this one map is the same in both
        // versions.
        let aside = self.dir.with_file_name("%aside");
        fs::create_dir(&aside)?;
        MapData::from_pin(self.dir.join(SOCKETS))?.pin(aside.join(SOCKETS))?;
        let (mut steering, _) = Steering::open(aside.clone(), Object::default(), Variant::Select)?;
        steering.fill(slot, listener.as_fd())?;
        Ok(fs::remove_dir_all(aside)?)
    }

    /// Publishes a table: for each endpoint its slots.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn publish(&mut self, lists: &[&[u32]], generation: u32, epoch: u32) -> Result<()> {
        let mut table = Array::<MapData, u32>::create(TABLE_WORDS, 0)?;
        let mut begin = 16;
        for (endpoint, slots) in (0..).zip(lists) {
            let count = u32::try_from(slots.len())?;
            table.set(endpoint, begin << 16 | count, 0)?;
            for slot in *slots {
                table.set(begin, slot, 0)?;
                begin += 1;
            }
        }
        table.set(TABLE_WORDS - 2, generation, 0)?;
        table.set(TABLE_WORDS - 1, epoch, 0)?;
        Ok(self.tables.set(0, &table, 0)?)
    }

    /// Puts the program on a listener's group.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn attach(&self, variant: Variant, endpoint: u32, listener: impl AsFd) -> Result<()> {
        let mut ebpf = load(&self.dir, endpoint)?;
        let program = ebpf.program_mut(variant.name()).context("no program")?;
        let program: &mut SkReuseport = program.try_into()?;
        program.load()?;
        program.pin(self.dir.join(format!("program-{endpoint}")))?;
        program.attach(listener.as_fd())?;
        Ok(())
    }
}

/// An endpoint's slots in a table of this version.
fn slots(entries: &[TableEntry], endpoint: u32) -> Vec<u32> {
    let share = entries[Share::entry(endpoint, 0) as usize];
    let Span { begin, count } = Share::unpack(share).span;
    let slots = entries[begin as usize..].iter().take(count as usize);
    slots.map(|entry| SlotEntry::unpack(*entry).slot).collect()
}

/// An entry of `MEMBERS`.
fn packed(member: &Member) -> [u64; 12] {
    let (family, ip) = match member.address.ip() {
        IpAddr::V4(ip) => (4, ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => (6, ip.octets()),
    };
    let halves = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let mut words = [0; 12];
    words[0] = member.cookie;
    words[1] = (member.state as u64) << 56 | halves(member.defer_accept, member.owner_uid);
    words[2] = halves(member.endpoint, member.generation);
    let port = u64::from(member.address.port());
    words[3] = halves(member.left_at, 0) | family << 16 | port;
    for (at, byte) in ip.iter().chain(&member.name[..32]).enumerate() {
        words[4 + at / 8] |= u64::from(*byte) << (at % 8 * 8);
    }
    words[10] = halves(member.pid_namespace, member.pid);
    words[11] = member.started;
    words
}

/// Loads the object for an endpoint; its maps are pinned, or found again.
fn load(dir: &Path, endpoint: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .override_global("ENDPOINT", &endpoint, true);
    for name in ["TABLES", "SOCKETS", "MEMBERS", "COUNTERS", "OUTCOMES"] {
        loader.map_pin_path(name, dir.join(name));
    }
    Ok(loader.load(OBJECT)?)
}

fn map<T: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T> {
    let map = ebpf.take_map(name).context(name)?;
    Ok(T::try_from(map)?)
}
