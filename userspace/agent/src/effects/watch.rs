//! What the kernel reports to nobody is noticed by a look each second: that processes that live have
//! closed a listener, that nobody accepts from one ([`waits`]), that somebody who is not registered
//! listens too ([`strangers`]), and that the program is off a reuseport group.

mod strangers;
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::{Duration, Instant},
};

use synflip_abi::Looked;
use synflip_plan::{Input, ProcessId};
use synflip_types::{EndpointId, Slot};

use strangers::Strangers;
use waits::{Queue, Waits};

use super::Executor;
use crate::{error::chain, fdstore, process};

/// Between two looks.
const EACH: Duration = Duration::from_secs(1);
/// All services look at the same moments: what one look has brought into the processor's cache is
/// there for the next.
static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Before what has been seen is believed: of a process that ends the listeners may be closed a
/// moment before its connection, by which it is known that it has ended.
const AGAIN: Duration = Duration::from_millis(100);

/// Before strangers are believed.
const SOON: Duration = Duration::from_millis(500);

/// What has been noticed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The next look; none before the first listener has come.
    due: Option<Instant>,
    /// Whether the program has been attached to a group on which it has not been seen yet.
    attached: bool,
    /// Descriptors that registrations have brought.
    brought: u64,
    /// What was the agent's alone at the last look, and is to be seen once more.
    suspected: BTreeSet<Slot>,
    /// What has been reported to be the agent's alone, and how many descriptors had been brought
    /// then.
    reported: (BTreeSet<Slot>, u64),
    /// The listeners of which systemd has been given a descriptor too.
    stored: BTreeSet<Slot>,
    /// The numbers of this agent's programs, as far as they have been asked for.
    programs: BTreeMap<EndpointId, u32>,
    /// The endpoints on whose groups this agent's program has been seen.
    steered: BTreeSet<EndpointId>,
    waits: Waits,
    strangers: Strangers,
    /// How many connections each listener was to be given by the agent itself.
    probes: BTreeMap<Slot, u32>,
    /// The listeners of which it is said when they are empty.
    asked: BTreeSet<Slot>,
}

impl Watch {
    /// A registration has brought a descriptor.
    pub(super) fn brought(&mut self) {
        self.brought += 1;
    }

    /// The program has been attached to the groups of these endpoints.
    pub(super) fn attached(&mut self, mut endpoints: impl Iterator<Item = EndpointId>) {
        self.programs.clear();
        self.attached |= endpoints.any(|endpoint| !self.steered.contains(&endpoint));
    }

    /// systemd has been given a descriptor, or has given this one.
    pub(super) fn stored(&mut self, slot: Slot) {
        if fdstore::is_there() {
            self.stored.insert(slot);
        }
    }

    /// A listener has been given a connection.
    pub(super) fn asked(&mut self, slot: Slot) {
        self.not_asked(slot);
        self.asked.insert(slot);
    }

    /// A listener could not be given a connection.
    pub(super) fn not_asked(&mut self, slot: Slot) {
        *self.probes.entry(slot).or_default() += 1;
        self.asked.remove(&slot);
    }

    /// A listener is closed.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.probes.remove(&slot);
        self.asked.remove(&slot);
        self.stored.remove(&slot);
        self.suspected.remove(&slot);
        self.reported.0.remove(&slot);
    }

    /// Takes notice of what is the agent's alone; true if that is to be said: it has been seen
    /// twice, and has not been said since anybody has come with descriptors.
    fn is_news(&mut self, alone: BTreeSet<Slot>) -> bool {
        let (said, brought) = &self.reported;
        if alone.is_empty() || (*brought == self.brought && alone.is_subset(said)) {
            self.reported.0 = alone;
            self.suspected.clear();
            return false;
        }
        let is_sure = alone.is_subset(&self.suspected);
        if is_sure {
            self.suspected.clear();
            self.reported = (alone, self.brought);
        } else {
            self.suspected = alone;
        }
        is_sure
    }

    /// When the next look comes after one at this moment.
    fn next(&self, now: Instant) -> Instant {
        if !self.suspected.is_empty() {
            now + AGAIN
        } else if self.strangers.are_suspected() {
            now + SOON
        } else {
            let since = now.saturating_duration_since(*FIRST);
            now + EACH - Duration::from_nanos_u128(since.as_nanos() % EACH.as_nanos())
        }
    }
}

impl Executor {
    /// How long until the next look; none if there is nothing to look at, or with.
    pub(super) fn watches(&self) -> Option<Duration> {
        if self.custody.is_empty() || self.setting.looker.is_none() {
            return None;
        }
        let due = self.watch.due;
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        Some(left.unwrap_or_default())
    }

    /// Looks, if it is time.
    pub(super) fn watch_if_due(&mut self) {
        let attached = std::mem::take(&mut self.watch.attached);
        let now = Instant::now();
        let due = *self.watch.due.get_or_insert_with(|| now + EACH);
        let is_due = due <= now;
        if !is_due && !attached {
            return;
        }
        self.look_around(is_due);
        if is_due {
            self.watch.due = Some(self.watch.next(now));
        }
    }

    fn look_around(&mut self, is_due: bool) {
        if self.watches().is_none() {
            return;
        }
        let slots: Vec<Slot> = self.custody.keys().copied().collect();
        let found = match self.try_look(&slots) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(service = %self.service, "{}", chain(&error));
                return;
            }
        };
        if is_due {
            self.report_alone(&found);
            self.report_waiting(&found);
            self.report_strangers(&found);
        }
        if self.has_lost_program(&found) {
            self.report(Input::ProgramGone);
        }
    }

    fn report_alone(&mut self, found: &[(Slot, Looked)]) {
        let alone = self.alone(found);
        if self.watch.is_news(alone) {
            let (slots, brought) = &self.watch.reported;
            let slots = slots.iter().copied().collect();
            let brought = *brought;
            self.report(Input::Abandoned { slots, brought });
        }
    }

    fn report_waiting(&mut self, found: &[(Slot, Looked)]) {
        let listening = found.iter().filter(|(_, looked)| looked.listens);
        let any_queued = listening.clone().any(|(_, looked)| looked.head.is_some());
        let queue = |(slot, looked): &(Slot, Looked)| {
            let given = self.kernel.as_ref()?.0.selections(slot.0).ok()?;
            let queue = Queue {
                endpoint: EndpointId(self.notes.get(slot)?.endpoint),
                head: looked.head,
                queued: looked.queued,
                given: given.selected,
                lendable: !self.custody.get(slot)?.blocks().unwrap_or(true),
            };
            Some((*slot, queue))
        };
        let queues = || listening.filter_map(queue).collect();
        let waiting = self.watch.waits.notice(Instant::now(), any_queued, queues);
        if !waiting.is_empty() {
            let kept = waiting.iter().filter(|waiting| !waiting.lendable);
            self.watch.asked.extend(kept.map(|waiting| waiting.slot));
            self.report(Input::Waiting(waiting));
        }
        let is_empty = |looked: &Looked| looked.queued == 0 && looked.half_open == 0;
        let listening = found.iter().filter(|(_, looked)| looked.listens);
        let empty =
            listening.filter(|(slot, looked)| is_empty(looked) && self.watch.asked.contains(slot));
        let empty: Vec<Slot> = empty.map(|(slot, _)| *slot).collect();
        for slot in empty {
            self.watch.asked.remove(&slot);
            let probes = self.watch.probes.get(&slot).copied().unwrap_or(0);
            self.report(Input::AcceptsAgain { slot, probes });
        }
    }

    fn report_strangers(&mut self, found: &[(Slot, Looked)]) {
        let seen: BTreeMap<Slot, &Looked> = found.iter().map(|(slot, l)| (*slot, l)).collect();
        let mut all: BTreeMap<EndpointId, usize> = BTreeMap::new();
        for (slot, looked) in found {
            // One that was refused is in somebody else's group.
            if !looked.listens || looked.members == 0 || self.unfilled.contains(slot) {
                continue;
            }
            let Some(endpoint) = self.notes.get(slot).map(|note| note.endpoint) else {
                continue;
            };
            // Those of an endpoint are in one group.
            all.entry(EndpointId(endpoint)).or_insert_with(|| {
                let known = self.known_at(endpoint, &seen);
                usize::from(looked.members).saturating_sub(known)
            });
        }
        for (endpoint, present) in self.watch.strangers.notice(Instant::now(), &all) {
            self.report(Input::Strangers { endpoint, present });
        }
    }

    /// How many listeners of an endpoint's group are known.
    fn known_at(&self, endpoint: u32, seen: &BTreeMap<Slot, &Looked>) -> usize {
        let noted = self.notes.iter().filter(|(slot, note)| {
            // What the agent does not have yet is somebody's who is to come back to it.
            note.endpoint == endpoint
                && !self.unfilled.contains(*slot)
                && seen.get(slot).is_none_or(|looked| looked.listens)
        });
        let coming = self.incoming.iter().filter(|listener| {
            let its = self.endpoints.get(&EndpointId(endpoint));
            its == Some(&listener.group.endpoint)
        });
        noted.count() + coming.count()
    }

    /// Tells that a process which was followed has ended, and which of its listeners others have:
    /// its children have what they have inherited.
    pub(super) fn report_end(&mut self, process: ProcessId) {
        let ended = self.processes.get(&process).map(|ended| ended.pid);
        // If only it is known to hold a listener, it is noted.
        let noted = self
            .notes
            .iter()
            .filter(|(_, note)| Some(note.pid) == ended);
        let its: Vec<Slot> = noted
            .map(|(slot, _)| *slot)
            .filter(|slot| self.custody.contains_key(slot))
            .collect();
        let found = match self.try_look(&its) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(service = %self.service, "{}", chain(&error));
                Vec::new()
            }
        };
        let alone = self.alone(&found);
        let open = found
            .iter()
            .filter(|(slot, looked)| looked.listens && looked.files > 0 && !alone.contains(slot));
        let open = open.map(|(slot, _)| *slot).collect();
        self.report(Input::Outlived { process, open });
    }

    /// The listeners that nobody has but the agent, and systemd for it. The count is that of the
    /// references on a listener's file: each descriptor is one, in whichever process.
    fn alone(&mut self, found: &[(Slot, Looked)]) -> BTreeSet<Slot> {
        let (mut alone, mut unsure) = (BTreeSet::new(), BTreeMap::new());
        for (slot, looked) in found.iter().filter(|(_, looked)| looked.listens) {
            match looked.files {
                1 => drop(alone.insert(*slot)),
                // systemd has the other, if it has kept what it was given: it does not say.
                2 if self.watch.stored.contains(slot) => {
                    // What nobody had nobody has: the count would be another.
                    if self.watch.reported.0.contains(slot) {
                        alone.insert(*slot);
                    } else if let Some(listener) = self.custody.get(slot) {
                        unsure.insert(listener.inode, *slot);
                    }
                }
                _ => {}
            }
        }
        if unsure.is_empty() {
            return alone;
        }
        // In another PID namespace nobody can be looked at.
        let visible = self.processes.values().all(|process| process.is_here());
        let inodes: BTreeSet<u64> = unsure.keys().copied().collect();
        let held = visible
            .then(|| process::sockets_of_others(&inodes))
            .flatten();
        for (inode, slot) in unsure {
            if held.as_ref().is_some_and(|held| !held.contains(&inode)) {
                alone.insert(slot);
            } else {
                self.watch.stored.remove(&slot);
            }
        }
        alone
    }

    /// Whether this agent's program was seen on a group before, and is not there now.
    fn has_lost_program(&mut self, found: &[(Slot, Looked)]) -> bool {
        let Some((steering, _)) = &self.kernel else {
            return false;
        };
        let Watch {
            programs, steered, ..
        } = &mut self.watch;
        let mut lost = false;
        for (slot, looked) in found {
            let Some(endpoint) = self.notes.get(slot).map(|note| EndpointId(note.endpoint)) else {
                continue;
            };
            // One that does not listen is in no group, and one that was refused in somebody else's.
            if !looked.listens || looked.members == 0 || self.unfilled.contains(slot) {
                continue;
            }
            let known = programs.get(&endpoint).copied();
            let Some(own) = known.or_else(|| steering.program_id(endpoint.0)) else {
                continue;
            };
            programs.insert(endpoint, own);
            if looked.program == own {
                steered.insert(endpoint);
            } else {
                // Of a kernel that does not show programs, it has never been seen.
                lost |= steered.contains(&endpoint);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone<const N: usize>(slots: [u32; N]) -> BTreeSet<Slot> {
        slots.map(Slot).into()
    }

    fn pause(watch: &Watch) -> Duration {
        let now = *FIRST + Duration::from_millis(1234);
        watch.next(now) - now
    }

    #[test]
    fn what_has_been_seen_twice_is_said_once() {
        let mut watch = Watch::default();
        assert!(!watch.is_news(alone([])));
        assert!(!watch.is_news(alone([1])));
        assert_eq!(pause(&watch), AGAIN);
        assert!(watch.is_news(alone([1])));
        assert!(pause(&watch) == Duration::from_millis(766));
        assert!(!watch.is_news(alone([1])));
        assert!(!watch.is_news(alone([1, 2])));
        assert!(watch.is_news(alone([1, 2])));
        assert!(!watch.is_news(alone([2])));
        watch.brought();
        assert!(!watch.is_news(alone([])));
        assert!(pause(&watch) == Duration::from_millis(766));
    }

    #[test]
    fn it_is_said_again_when_somebody_has_come_with_descriptors() {
        let mut watch = Watch::default();
        watch.is_news(alone([1]));
        assert!(watch.is_news(alone([1])));
        watch.brought();
        assert!(!watch.is_news(alone([1])));
        assert!(watch.is_news(alone([1])));
        // The slot is another listener's now.
        watch.forget(Slot(1));
        assert!(!watch.is_news(alone([1])));
        assert!(watch.is_news(alone([1])));
    }

    #[test]
    fn what_is_seen_once_was_a_process_that_ended() {
        let mut watch = Watch::default();
        assert!(!watch.is_news(alone([1])));
        assert!(!watch.is_news(alone([])));
        assert!(pause(&watch) == Duration::from_millis(766));
    }
}
