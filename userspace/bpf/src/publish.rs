//! The flip: one pointer swap that all programs of a service see at one instant.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{Array, ArrayOfMaps, MapData, MapError};
use synflip_abi::{BARRIER, PUBLISHED, TABLE_WORDS, TABLES};

use crate::{BpfError, sockets::Sockets};

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
    pub(crate) tables: ArrayOfMaps<MapData, Array<MapData, u32>>,
    pub(crate) sockets: Arc<Sockets>,
}

impl Publisher {
    /// Publishes a table. When this returns, the programs follow it on every CPU, and none that
    /// began with the old one is still running: no request can be created any more on a listener
    /// that it leaves out.
    ///
    /// That is what the wait inside the update is for (`maybe_wait_bpf_programs`: a full RCU
    /// grace period, 5.10 to 7.3): a SYN's listener selection and the request's insertion are one
    /// RCU read section. It takes milliseconds up to 6.18; call it where blocking is allowed.
    ///
    /// `members` has the socket cookie that is meant by each slot of the table.
    ///
    /// # Errors
    /// [`BpfError::ListenerGone`] if a slot holds another listener or none. Nothing has changed
    /// after any error.
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
        let table = Self::fill(words)?;
        done(Step::Filled);
        for (slot, cookie) in members {
            if self.sockets.cookie(*slot)? != Some(*cookie) {
                return Err(BpfError::ListenerGone { slot: *slot });
            }
        }
        done(Step::Verified);
        self.tables
            .set(PUBLISHED, &table, 0)
            .map_err(BpfError::map("updating", TABLES))?;
        Ok(Published {
            took: begun.elapsed(),
        })
    }

    /// Waits for a grace period, as a publication does, and changes nothing.
    ///
    /// # Errors
    /// When the kernel refuses the update.
    pub fn barrier(&mut self) -> Result<Duration, BpfError> {
        let table = Self::fill(&[])?;
        let begun = Instant::now();
        self.tables
            .set(BARRIER, &table, 0)
            .map_err(BpfError::map("updating", TABLES))?;
        Ok(begun.elapsed())
    }

    /// The table that is published, if there is one. Needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn published(&self) -> Result<Option<Vec<u32>>, BpfError> {
        let table = match self.tables.get(&PUBLISHED, 0) {
            Ok(table) => table,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(BpfError::map("reading", TABLES)(error)),
        };
        let words: Result<Vec<u32>, _> = table.iter().collect();
        words
            .map(Some)
            .map_err(BpfError::map("reading", "a slot table"))
    }

    fn fill(words: &[u32]) -> Result<Array<MapData, u32>, BpfError> {
        let failed = || BpfError::map("filling", "a slot table");
        let mut table = Array::create(TABLE_WORDS, 0).map_err(failed())?;
        for (index, word) in (0..).zip(words).filter(|(_, word)| **word != 0) {
            table.set(index, word, 0).map_err(failed())?;
        }
        Ok(table)
    }
}
