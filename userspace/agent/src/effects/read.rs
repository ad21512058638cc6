//! What is pending on listeners, and what the programs have counted.

use std::collections::BTreeMap;

use synflip_bpf::BpfError;
use synflip_plan::{Pending, Reading};
use synflip_types::{EndpointId, Slot};

use super::{Executor, Survey};

impl Executor {
    /// Looks at listeners; those of one address family in the order of their hash buckets.
    pub(super) fn read(&mut self, slots: &[Slot]) -> Vec<(Slot, Reading)> {
        let mut found = match self.look(slots) {
            Some(found) => found,
            None => self.in_tables(slots),
        };
        for slot in slots {
            let at = found.iter().position(|(other, _)| other == slot);
            match (at, self.custody.get(slot)) {
                (Some(at), Some(listener)) => {
                    // "Nothing is pending" is believed only if TCP_INFO says the same of the queue:
                    // the line may have been read before the last connection came.
                    if let Reading::Pending(pending) = found[at].1
                        && pending.is_empty()
                        && let Ok(queued @ 1..) = listener.accept_queue()
                    {
                        let refcnt = queued + 1;
                        found[at].1 = Reading::Pending(Pending { refcnt, queued });
                    }
                }
                // What was pending on it was moved or reset when it was shut down.
                (None, Some(listener)) if listener.has_stopped() => {
                    found.push((*slot, Reading::Stopped));
                }
                (None, Some(_)) => found.push((*slot, Reading::Unknown)),
                (None, None) => found.push((*slot, self.in_slot(*slot))),
                (Some(_), None) => {}
            }
        }
        found
    }

    fn in_tables(&mut self, slots: &[Slot]) -> Vec<(Slot, Reading)> {
        let mut found = Vec::new();
        let Some(tables) = &mut self.tables else {
            return found;
        };
        for ipv6 in [false, true] {
            let by_inode: BTreeMap<u64, Slot> = slots
                .iter()
                .filter_map(|slot| Some((slot, self.custody.get(slot)?)))
                .filter(|(_, listener)| listener.address.is_ipv6() == ipv6)
                .map(|(slot, listener)| (listener.inode, *slot))
                .collect();
            let inodes: Vec<u64> = by_inode.keys().copied().collect();
            match tables.read(ipv6, &inodes) {
                Ok(lines) => found.extend(lines.into_iter().filter_map(|line| {
                    let slot = by_inode.get(&line.inode)?;
                    Some((*slot, Reading::Pending(line.pending)))
                })),
                Err(error) => tracing::warn!(service = %self.service, "listener table: {error}"),
            }
        }
        found
    }

    /// Whether a listener that the agent does not hold is open: the kernel takes it out of its
    /// slot when it closes.
    fn in_slot(&self, slot: Slot) -> Reading {
        let Some((steering, _)) = &self.kernel else {
            return Reading::Gone;
        };
        match (steering.member(slot.0), self.notes.get(&slot)) {
            (Ok((_, Some(cookie))), Some(note)) if cookie == note.cookie => Reading::Unknown,
            (Ok(_), _) => Reading::Gone,
            (Err(error), _) => {
                self.warn(slot, &error);
                Reading::Unknown
            }
        }
    }

    /// Figures for the status.
    pub(super) fn survey(
        &mut self,
        slots: &[Slot],
        endpoints: &[EndpointId],
    ) -> Result<Survey, BpfError> {
        let mut survey = Survey {
            readings: self.read(slots).into_iter().collect(),
            ..Survey::default()
        };
        let Some((steering, _)) = &self.kernel else {
            return Ok(survey);
        };
        for endpoint in endpoints {
            survey
                .outcomes
                .insert(*endpoint, steering.outcomes(endpoint.0)?);
        }
        for slot in slots {
            survey
                .selections
                .insert(*slot, steering.selections(slot.0)?);
        }
        Ok(survey)
    }
}
