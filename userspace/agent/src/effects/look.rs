//! What the iterator shows of the listeners in custody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::AsFd as _,
};

use synflip_abi::Looked;
use synflip_bpf::{BpfError, Listeners};
use synflip_plan::{Pending, Reading};
use synflip_types::{Cookie, Slot};

use super::Executor;
use crate::{custody::Custody, error::chain};

/// Looks that are made until none of the listeners that are open is left out: that happens when
/// others close meanwhile.
const ATTEMPTS: usize = 3;

/// A service's listeners as the iterator finds them.
#[derive(Debug)]
pub(crate) struct Looks {
    listeners: Listeners,
    /// Those that it visits.
    added: BTreeSet<Cookie>,
    /// The places of listeners in their hash bucket. One that stays in its slot has not been shut
    /// down, and so keeps its place.
    places: HashMap<Cookie, usize>,
}

impl Executor {
    /// Looks at listeners; those that are in the same hash bucket in its order. Those that are not
    /// in custody or do not listen are left out. None if not all others can be seen.
    pub(super) fn look(&mut self, slots: &[Slot]) -> Option<Vec<(Slot, Reading)>> {
        let mut found = match self.try_look(slots) {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(service = %self.service, "{}", chain(&error));
                return None;
            }
        };
        found.retain(|(_, looked)| looked.listens);
        let looks = self.looks.as_mut()?;
        let keeps_place =
            |looked: &Looked| looked.in_slot && looks.places.contains_key(&Cookie(looked.cookie));
        if !found.iter().all(|(_, looked)| keeps_place(looked)) {
            self.find_places();
        }
        let places = &self.looks.as_ref()?.places;
        let mut placed: Vec<(usize, Slot, Reading)> = found
            .into_iter()
            .filter_map(|(slot, looked)| {
                let place = *places.get(&Cookie(looked.cookie))?;
                Some((place, slot, Reading::Pending(pending(&looked))))
            })
            .collect();
        placed.sort_unstable_by_key(|(place, ..)| *place);
        let readings = placed.into_iter();
        Some(readings.map(|(_, slot, reading)| (slot, reading)).collect())
    }

    /// All that the iterator tells of listeners; none if not all that are in custody can be seen.
    pub(super) fn try_look(
        &mut self,
        slots: &[Slot],
    ) -> Result<Option<Vec<(Slot, Looked)>>, BpfError> {
        if self.looks.is_none() {
            let (Some(looker), Some((steering, _))) = (&self.setting.looker, &self.kernel) else {
                return Ok(None);
            };
            self.looks = Some(Looks {
                listeners: looker.of_service(steering.dir())?,
                added: BTreeSet::new(),
                places: HashMap::new(),
            });
        }
        let Some(looks) = &mut self.looks else {
            return Ok(None);
        };
        let custody = slots
            .iter()
            .filter_map(|slot| Some((*slot, self.custody.get(slot)?)));
        let wanted: BTreeMap<Cookie, Slot> = custody
            .clone()
            .map(|(slot, listener)| (listener.cookie, slot))
            .collect();
        for (_, listener) in custody {
            if !looks.added.contains(&listener.cookie) {
                looks.listeners.add(listener.as_fd())?;
                looks.added.insert(listener.cookie);
            }
        }
        for _ in 0..ATTEMPTS {
            let all: BTreeMap<Slot, Looked> = looks
                .listeners
                .look()?
                .into_iter()
                .filter_map(|looked| Some((*wanted.get(&Cookie(looked.cookie))?, looked)))
                .collect();
            if all.len() == wanted.len() {
                return Ok(Some(all.into_iter().collect()));
            }
        }
        Ok(None)
    }

    /// Finds out in which order listeners in custody are in their buckets.
    fn find_places(&mut self) {
        let (Some(looks), Some(tables)) = (&mut self.looks, &mut self.tables) else {
            return;
        };
        let custody = self.custody.values();
        let of = |listener: &Custody| (listener.address.is_ipv6(), listener.address.port());
        let ports: BTreeSet<(bool, u16)> = custody.clone().map(of).collect();
        looks.places.clear();
        for (ipv6, port) in ports {
            let order = tables.buckets.listeners(ipv6, port).or_else(|error| {
                tracing::debug!(service = %self.service, "no socket diagnosis: {error}");
                let of_port = custody.clone().filter(|its| of(its) == (ipv6, port));
                let by_inode: HashMap<u64, Cookie> =
                    of_port.map(|its| (its.inode, its.cookie)).collect();
                let inodes: Vec<u64> = by_inode.keys().copied().collect();
                let lines = tables.read(ipv6, &inodes)?;
                let cookies = lines.iter().filter_map(|line| by_inode.get(&line.inode));
                Ok::<_, std::io::Error>(cookies.copied().collect())
            });
            match order {
                Ok(order) => {
                    for cookie in order {
                        let next = looks.places.len();
                        looks.places.entry(cookie).or_insert(next);
                    }
                }
                Err(error) => tracing::warn!(service = %self.service, "listener table: {error}"),
            }
        }
    }

    /// A listener has come, or is there again: where it is in its bucket has to be found out.
    pub(super) fn forget_places(&mut self) {
        if let Some(looks) = &mut self.looks {
            looks.places.clear();
        }
    }

    /// The agent lets go of a listener; a server may keep it open.
    pub(super) fn look_no_more(&mut self, listener: &Custody) {
        if let Some(looks) = &mut self.looks
            && looks.added.remove(&listener.cookie)
        {
            looks.listeners.remove(listener.as_fd());
        }
    }
}

/// What is pending on a listener.
///
/// A request of TCP Fast Open that was accepted before its handshake has ended, or was reset then
/// and is parked ([`reqsk_fastopen_remove`], 5.10 to 7.3), has a reference on the listener still, and
/// nothing of it is lost when that closes. With an empty queue all that Fast Open counts are such.
///
/// [`reqsk_fastopen_remove`]: https://elixir.bootlin.com/linux/v6.12/source/net/core/request_sock.c
fn pending(looked: &Looked) -> Pending {
    let accepted = match looked.queued {
        0 => looked.fast_open,
        _ => 0,
    };
    // Read before, the count can only be too high for what is subtracted.
    let refcnt = looked.refcnt.saturating_sub(accepted);
    let refcnt = match accepted {
        0 => refcnt,
        // Whatever Fast Open counts, these are others.
        _ => refcnt.max(looked.half_open.saturating_add(1)),
    };
    Pending {
        refcnt,
        queued: looked.queued,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fast_open_has_parked_is_not_pending() {
        let looked = |refcnt, queued, fast_open| {
            pending(&Looked {
                refcnt,
                queued,
                fast_open,
                ..Looked::default()
            })
        };
        assert!(looked(1, 0, 0).is_empty());
        assert!(looked(3, 0, 2).is_empty());
        // One has begun its handshake.
        assert_eq!(looked(4, 0, 2).half_open(), 1);
        let one = Looked {
            refcnt: 3,
            half_open: 1,
            fast_open: 2,
            ..Looked::default()
        };
        assert_eq!(pending(&one).half_open(), 1);
        // Which of them are queued is not known.
        assert!(!looked(3, 1, 2).is_empty());
        assert!(!looked(2, 0, 0).is_empty());
        assert!(!looked(1, 1, 0).is_empty());
    }
}
