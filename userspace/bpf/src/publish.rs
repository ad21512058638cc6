//! The flip: one pointer swap that all programs of a service see at one instant.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{MapData, MapError};
use synflip_abi::{BARRIER, PUBLISHED, TABLES};

use crate::{
    BpfError,
    carry_over::Carrying,
    slot_table::{self, SlotTable},
    sockets::Sockets,
    sys,
};

/// A table that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// How long filling, verifying and swapping took, the grace period included.
    pub took: Duration,
}

/// What has been done of a publication, the last step left out: then it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The table is filled.
    Filled,
    /// Each of its slots holds the listener that is meant.
    Verified,
}

/// Publishes slot tables.
#[derive(Debug)]
pub struct Publisher {
    tables: MapData,
    sockets: Arc<Sockets>,
    /// Where the service's pins are.
    dir: PathBuf,
    /// If its groups may run the program of an earlier version still.
    carrying: Option<Arc<Carrying>>,
}

impl Publisher {
    pub(crate) fn new(
        tables: MapData,
        sockets: Arc<Sockets>,
        dir: PathBuf,
        carrying: Option<Arc<Carrying>>,
    ) -> Self {
        Self {
            tables,
            sockets,
            dir,
            carrying,
        }
    }

    /// Publishes a table. When this returns, the programs follow it on every CPU, and none that
    /// began with the old one is still running: no request can be created any more on a listener
    /// that it leaves out.
    ///
    /// The update of a map of maps waits for a full RCU grace period ([`maybe_wait_bpf_programs`],
    /// 5.10 to 7.3), and a SYN's listener selection and the request's insertion are one RCU read
    /// section. It takes milliseconds up to 6.18; call it where blocking is allowed.
    ///
    /// `members` has the socket cookie that is meant by each slot of the table.
    ///
    /// # Errors
    /// [`BpfError::ListenerGone`] if a slot holds another listener or none. Nothing has changed
    /// after any error.
    ///
    /// [`maybe_wait_bpf_programs`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/syscall.c
    pub fn publish(
        &mut self,
        words: &[u32],
        members: &[(u32, u64)],
    ) -> Result<Published, BpfError> {
        self.publish_stepwise(words, members, |_| {})
    }

    /// The same, telling of each step when it has been done.
    ///
    /// # Errors
    /// Those of [`Self::publish`].
    pub fn publish_stepwise(
        &mut self,
        words: &[u32],
        members: &[(u32, u64)],
        mut done: impl FnMut(Step),
    ) -> Result<Published, BpfError> {
        let begun = Instant::now();
        let table = SlotTable::new(words, members)?;
        done(Step::Filled);
        for (slot, cookie) in members {
            if self.sockets.cookie(*slot)? != Some(*cookie) {
                return Err(BpfError::ListenerGone { slot: *slot });
            }
        }
        done(Step::Verified);
        // Before it is published: an agent that dies right after that leaves a table that the next
        // one can open.
        let pin = table.pin(&self.dir, words)?;
        if let Err(error) = self.swap(words, &table) {
            // If this fails, too, the pin is removed after the next publication.
            drop(fs::remove_file(&pin));
            return Err(error);
        }
        let took = begun.elapsed();
        slot_table::unpin_others(&self.dir, &pin);
        Ok(Published { took })
    }

    /// Waits for a grace period, as a publication does, and changes nothing.
    ///
    /// # Errors
    /// When the kernel refuses the update.
    pub fn barrier(&mut self) -> Result<Duration, BpfError> {
        let table = SlotTable::new(&[], &[])?;
        let begun = Instant::now();
        self.set(BARRIER, &table)?;
        Ok(begun.elapsed())
    }

    /// The words of the table that is published, if there is one, the cookies included.
    ///
    /// # Errors
    /// When it cannot be read. Needs CAP_SYS_ADMIN if its pin has been removed.
    pub fn published(&self) -> Result<Option<Vec<u32>>, BpfError> {
        let id: u32 = match sys::lookup(self.tables.fd().as_fd(), PUBLISHED) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BpfError::map("reading", TABLES)(MapError::IoError(error))),
        };
        SlotTable::find(&self.dir, id)?.words().map(Some)
    }

    fn swap(&self, words: &[u32], table: &SlotTable) -> Result<(), BpfError> {
        let Some(carrying) = &self.carrying else {
            return self.set(PUBLISHED, table);
        };
        let before = self.published()?;
        carrying.publish(words)?;
        let swapped = self.set(PUBLISHED, table);
        if let (Err(_), Some(before)) = (&swapped, before) {
            carrying.publish(&before)?;
        }
        swapped
    }

    fn set(&self, index: u32, table: &SlotTable) -> Result<(), BpfError> {
        let fd = table.0.fd().as_fd().as_raw_fd().cast_unsigned();
        let updated = sys::update(self.tables.fd().as_fd(), index, fd);
        updated.map_err(|error| BpfError::map("updating", TABLES)(MapError::IoError(error)))
    }
}
