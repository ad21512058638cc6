//! One service in the kernel: its maps, and a program for each of its endpoints.

use std::{
    collections::BTreeMap,
    fmt, io,
    num::NonZero,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::maps::{Array, MapData};
use rustix::net::sockopt::socket_cookie;
use synflip_abi::{
    ASKED, Asked, COUNTERS, MAX_ENDPOINTS, MAX_SLOTS, MEMBERS, Member, Moment, OUTCOMES, PAST,
    SOCKETS, TABLES, TIMELINE,
};

use crate::{
    BpfError, Object, Outcomes, Publisher, Selections, Variant, bpffs,
    carry_over::Carrying,
    counters::Counters,
    object::{data, typed},
    pins,
    programs::Programs,
    sockets::Sockets,
    timeline::Timeline,
};

/// A service's maps and programs.
///
/// Dropping it changes nothing in the kernel: the reuseport groups hold the programs, these hold
/// the maps, and the pins are there to find them again.
pub struct Steering {
    dir: PathBuf,
    sockets: Arc<Sockets>,
    members: Array<MapData, [u64; Member::WORDS]>,
    pub(crate) counters: Counters,
    asked: Array<MapData, u32>,
    timeline: Timeline,
    /// The endpoint of each slot that something is noted of.
    endpoints: BTreeMap<u32, u32>,
    /// If its groups may run the program of an earlier version still.
    carrying: Option<Arc<Carrying>>,
    pub(crate) programs: Programs,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Steering {
    /// Opens a service's pinned maps, or makes and pins them.
    ///
    /// # Errors
    /// When the kernel refuses, or what is pinned there was not made by this version.
    pub fn open(
        dir: PathBuf,
        object: Object,
        variant: Variant,
    ) -> Result<(Self, Publisher), BpfError> {
        bpffs::create_dir(&dir)?;
        pins::check(&dir)?;
        let mut ebpf = object.open(0, Some(&dir))?;
        let sockets = Arc::new(Sockets(data(&mut ebpf, SOCKETS)?));
        let tables = data(&mut ebpf, TABLES)?;
        let members = data(&mut ebpf, MEMBERS)?;
        let slots = data(&mut ebpf, COUNTERS)?;
        let outcomes = data(&mut ebpf, OUTCOMES)?;
        let past = data(&mut ebpf, PAST)?;
        let asked = data(&mut ebpf, ASKED)?;
        let timeline = data(&mut ebpf, TIMELINE)?;
        let mut steering = Self {
            dir,
            sockets,
            members: typed(members, MEMBERS)?,
            counters: Counters {
                slots: typed(slots, COUNTERS)?,
                outcomes: typed(outcomes, OUTCOMES)?,
                past: typed(past, PAST)?,
            },
            asked: typed(asked, ASKED)?,
            timeline: Timeline::new(typed(timeline, TIMELINE)?),
            endpoints: BTreeMap::new(),
            carrying: None,
            programs: Programs::new(object, variant),
        };
        steering.resume()?;
        let publisher = Publisher::new(
            tables,
            Arc::clone(&steering.sockets),
            steering.dir.clone(),
            steering.carrying.clone(),
        );
        Ok((steering, publisher))
    }

    /// Finishes what an earlier agent was in the middle of, and learns what it has noted.
    fn resume(&mut self) -> Result<(), BpfError> {
        self.counters.finish_moves_to_past()?;
        for endpoint in 0..MAX_ENDPOINTS {
            let word = self.asked.get(&endpoint, 0);
            // Whoever asked has died with that agent.
            if word.map_err(BpfError::map("reading", ASKED))? != 0 {
                self.ask_no_more(endpoint)?;
            }
        }
        for slot in 0..MAX_SLOTS {
            if let Some(member) = self.noted(slot)? {
                self.endpoints.insert(slot, member.endpoint);
            }
        }
        let open = |slot: &u32| matches!(self.sockets.cookie(*slot), Ok(Some(_)));
        let open = self.endpoints.iter().filter(|(slot, _)| open(slot));
        let mut open: Vec<u32> = open.map(|(_, endpoint)| *endpoint).collect();
        open.sort_unstable();
        open.dedup();
        self.carrying = Carrying::find(&self.dir, &self.sockets, open).map(Arc::new);
        Ok(())
    }

    /// How many slots there are: fewer than [`MAX_SLOTS`] if an earlier version has begun the
    /// service.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn slots(&self) -> Result<u32, BpfError> {
        let info = self.sockets.0.info();
        let info = info.map_err(BpfError::map("inspecting", SOCKETS))?;
        Ok(info.max_entries().min(MAX_SLOTS))
    }

    /// Attaches the endpoint's program to the reuseport group that the listener is in.
    ///
    /// The listener must be listening: attached to before that, it could no longer join a group
    /// that exists. Attaching again replaces the program by itself, which also mends a group whose
    /// program a member has replaced or taken away.
    ///
    /// # Errors
    /// When the program or the attachment is refused; the group is as it was.
    pub fn attach(&mut self, endpoint: u32, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        let attached = self.programs.attach(&self.dir, endpoint, listener);
        if let (Ok(()), Some(carrying)) = (&attached, &self.carrying) {
            carrying.runs_new_program(endpoint);
        }
        attached
    }

    /// Puts a listening socket into a free slot and notes what it is: [`Self::fill`], then
    /// [`Self::note`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn put(
        &mut self,
        slot: u32,
        member: &Member,
        listener: BorrowedFd<'_>,
    ) -> Result<(), BpfError> {
        self.fill(slot, listener)?;
        self.note(slot, Some(member))
    }

    /// Puts a listening socket into a free slot. If an agent of another version has it in one of
    /// its own, it is taken out of there.
    ///
    /// # Errors
    /// When the kernel refuses: another program's socket array has the listener already (EBUSY),
    /// or it is not listening or not SO_REUSEPORT (EINVAL). The slot is empty then.
    pub fn fill(&mut self, slot: u32, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.keep_counts(slot)?;
        self.counters.reset(slot)?;
        match self.sockets.put(slot, listener) {
            Err(error) if error.is_busy() => {
                let cookie = socket_cookie(listener).unwrap_or_default();
                if pins::take_out_of_other_version(&self.dir, cookie) {
                    self.sockets.put(slot, listener)
                } else {
                    Err(error)
                }
            }
            done => done,
        }
    }

    /// Notes what a slot is used for, for the agent that comes after.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn note(&mut self, slot: u32, member: Option<&Member>) -> Result<(), BpfError> {
        let words = member.map_or(Member::FREE, Member::pack);
        self.members
            .set(slot, words, 0)
            .map_err(BpfError::map("writing", MEMBERS))?;
        match member {
            Some(member) => self.endpoints.insert(slot, member.endpoint),
            None => self.endpoints.remove(&slot),
        };
        Ok(())
    }

    /// Keeps a slot's counts among those of its endpoint: the slot is about to become free.
    fn keep_counts(&mut self, slot: u32) -> Result<(), BpfError> {
        match self.endpoints.get(&slot) {
            Some(endpoint) if *endpoint < MAX_ENDPOINTS => {
                self.counters.move_to_past(slot, *endpoint)
            }
            _ => Ok(()),
        }
    }

    /// Empties a slot. No table may mention it.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn clear(&mut self, slot: u32) -> Result<(), BpfError> {
        self.sockets.clear(slot)?;
        self.keep_counts(slot)?;
        let endpoint = self.endpoints.get(&slot).copied();
        self.note(slot, None)?;
        // Nobody is left in the group: there is nothing to attach a program to.
        if let (Some(endpoint), Some(carrying)) = (endpoint, &self.carrying)
            && !self.endpoints.values().any(|other| *other == endpoint)
        {
            carrying.runs_new_program(endpoint);
        }
        Ok(())
    }

    fn noted(&self, slot: u32) -> Result<Option<Member>, BpfError> {
        let words = self.members.get(&slot, 0);
        let words = words.map_err(BpfError::map("reading", MEMBERS))?;
        Ok(Member::unpack(&words))
    }

    /// Forgets what was counted of an endpoint: its number is to be another's, and no listener of
    /// it is left.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn clear_endpoint(&mut self, endpoint: u32) -> Result<(), BpfError> {
        self.ask_no_more(endpoint)?;
        self.counters.clear(endpoint)
    }

    /// What is noted of a slot, and the cookie of the listener that is in it now.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn member(&self, slot: u32) -> Result<(Option<Member>, Option<u64>), BpfError> {
        Ok((self.noted(slot)?, self.sockets.cookie(slot)?))
    }

    /// Has connections from this port of the endpoint's own address go to a slot, whatever the
    /// published table says, until [`Self::ask_no_more`]: that is how a generation that does not
    /// work yet is asked whether it answers.
    ///
    /// One for each endpoint; another one replaces it. It begins at once and ends with this agent.
    /// A connection from elsewhere does not profit, whatever its port. If nothing is in the slot,
    /// the table decides.
    ///
    /// # Errors
    /// When the map cannot be written: the endpoint's or the slot's number is none.
    pub fn ask(&mut self, endpoint: u32, slot: u32, port: NonZero<u16>) -> Result<(), BpfError> {
        let slot = u16::try_from(slot).map_err(|_too_large| BpfError::Slot {
            op: "asking",
            slot,
            source: io::ErrorKind::InvalidInput.into(),
        })?;
        let asked = Asked {
            port: port.get(),
            slot,
        };
        let written = self.asked.set(endpoint, asked.pack(), 0);
        written.map_err(BpfError::map("writing", ASKED))
    }

    /// Has all connections of an endpoint go where the table says again.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn ask_no_more(&mut self, endpoint: u32) -> Result<(), BpfError> {
        let written = self.asked.set(endpoint, 0, 0);
        written.map_err(BpfError::map("writing", ASKED))
    }

    /// What has happened to the service, oldest first: the last
    /// [`MAX_MOMENTS`](synflip_abi::MAX_MOMENTS) things that were appended, by earlier agents too.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn timeline(&self) -> Result<Vec<Moment>, BpfError> {
        self.timeline.moments()
    }

    /// Remembers something that has happened, at this time in milliseconds since the Unix epoch.
    /// What is too long is cut off.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn append(&mut self, at_ms: u64, generation: &str, text: &str) -> Result<(), BpfError> {
        self.timeline.append(at_ms, generation, text)
    }

    /// What came of an endpoint's runs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn outcomes(&self, endpoint: u32) -> Result<Outcomes, BpfError> {
        let its = self.endpoints.iter().filter(|(_, its)| **its == endpoint);
        self.counters.outcomes(endpoint, its.map(|(slot, _)| *slot))
    }

    /// What a slot was given.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn selections(&self, slot: u32) -> Result<Selections, BpfError> {
        self.counters.selections(slot)
    }

    /// Whether the programs log: the object was built with that feature.
    pub fn logs(&self) -> bool {
        self.programs.log()
    }

    /// Passes on what the programs have logged since the last call, to the `log` crate's logger.
    pub fn flush_logs(&mut self) {
        self.programs.flush_logs();
    }

    /// Removes the pins: the service is over. Groups that still have members keep their program.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn unpin(self) -> Result<(), BpfError> {
        if let Some(carrying) = &self.carrying {
            carrying.remove_old_pins();
        }
        bpffs::remove_dir(&self.dir)
    }

    /// Where its pins are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
