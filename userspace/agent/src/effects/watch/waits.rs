//! Which connections wait at the head of an accept queue while others are accepted.

use std::{
    collections::BTreeMap,
    num::NonZero,
    time::{Duration, Instant},
};

use synflip_plan::Waiting;
use synflip_types::{EndpointId, Slot};

/// How long a connection has to head its queue before it is said that it waits: a little less than
/// the time between two looks.
const LONG: Duration = Duration::from_millis(950);

/// The queues as they were a while ago.
#[derive(Debug, Default)]
pub(super) struct Waits {
    before: Option<(Instant, BTreeMap<Slot, Queue>)>,
}

/// One listener's accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) endpoint: EndpointId,
    /// Which connection is its first.
    pub(super) head: Option<NonZero<u64>>,
    pub(super) queued: u32,
    /// How many the program has ever given it.
    pub(super) given: u64,
    pub(super) lendable: bool,
}

impl Queue {
    /// Whether something has been accepted from it since it was like that.
    fn moved_since(&self, before: &Self) -> bool {
        match before.head {
            Some(_) => self.head != before.head,
            // Those that are half-open still are given, and not queued.
            None => self.given > before.given.saturating_add(u64::from(self.queued)),
        }
    }
}

impl Waits {
    /// Takes notice of the queues as they are now; returns those whose head has not changed for a
    /// second. `queues` are asked for only if something is queued.
    pub(super) fn notice(
        &mut self,
        now: Instant,
        any_queued: bool,
        queues: impl FnOnce() -> BTreeMap<Slot, Queue>,
    ) -> Vec<Waiting> {
        if !any_queued {
            self.before = None;
            return Vec::new();
        }
        if let Some((at, _)) = self.before
            && now.duration_since(at) < LONG
        {
            return Vec::new();
        }
        let queues = queues();
        let before = self.before.replace((now, queues.clone()));
        let Some((_, before)) = before else {
            return Vec::new();
        };
        let moved = |slot: &Slot| {
            let (now, then) = (queues.get(slot), before.get(slot));
            now.zip(then)
                .is_some_and(|(now, then)| now.moved_since(then))
        };
        let waits = queues.iter().filter(|(slot, queue)| {
            queue.head.is_some() && before.get(slot).is_some_and(|then| then.head == queue.head)
        });
        let waiting = waits.map(|(slot, queue)| Waiting {
            slot: *slot,
            queued: queue.queued,
            beside: queues
                .iter()
                .any(|(other, its)| its.endpoint == queue.endpoint && moved(other)),
            lendable: queue.lendable,
        });
        waiting.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Queue = Queue {
        endpoint: EndpointId(0),
        head: None,
        queued: 0,
        given: 0,
        lendable: true,
    };

    fn queue(head: u64, queued: u32, given: u64) -> Queue {
        Queue {
            head: NonZero::new(head),
            queued,
            given,
            ..EMPTY
        }
    }

    struct Watch {
        waits: Waits,
        now: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self {
                waits: Waits::default(),
                now: Instant::now(),
            }
        }

        /// The queues of slots 0, 1, … after so many milliseconds.
        fn after(&mut self, ms: u64, queues: &[Queue]) -> Vec<(u32, bool)> {
            self.now += Duration::from_millis(ms);
            let any = queues.iter().any(|queue| queue.head.is_some());
            let all = (0..).map(Slot).zip(queues.iter().copied()).collect();
            let waiting = self.waits.notice(self.now, any, || all);
            let waiting = waiting.into_iter();
            waiting
                .map(|waiting| (waiting.slot.0, waiting.beside))
                .collect()
        }
    }

    #[test]
    fn who_heads_a_queue_for_a_second_waits() {
        let mut watch = Watch::new();
        assert_eq!(watch.after(0, &[queue(7, 1, 1)]), []);
        assert_eq!(watch.after(100, &[queue(7, 2, 2)]), []);
        assert_eq!(watch.after(900, &[queue(7, 3, 3)]), [(0, false)]);
        // As long as it lasts.
        assert_eq!(watch.after(1000, &[queue(7, 3, 3)]), [(0, false)]);
        assert_eq!(watch.after(1000, &[queue(8, 2, 3)]), []);
        assert_eq!(watch.after(1000, &[EMPTY]), []);
        assert_eq!(watch.after(1000, &[queue(8, 2, 3)]), []);
    }

    #[test]
    fn a_sibling_is_accepted_from_if_its_head_changes_or_what_it_was_given_has_gone() {
        let mut watch = Watch::new();
        let stuck = queue(7, 1, 1);
        watch.after(0, &[stuck, queue(1, 1, 1)]);
        assert_eq!(watch.after(1000, &[stuck, queue(2, 1, 2)]), [(0, true)]);
        assert_eq!(watch.after(1000, &[stuck, queue(0, 0, 2)]), [(0, true)]);
        assert_eq!(watch.after(1000, &[stuck, queue(0, 0, 2)]), [(0, false)]);
        assert_eq!(watch.after(1000, &[stuck, queue(0, 0, 3)]), [(0, true)]);
        // One that waits in it has come, and was not accepted.
        assert_eq!(watch.after(1000, &[stuck, queue(3, 1, 4)]), [(0, false)]);
    }

    #[test]
    fn another_endpoints_listeners_are_no_siblings() {
        let mut watch = Watch::new();
        let other = |given| Queue {
            endpoint: EndpointId(1),
            ..queue(0, 0, given)
        };
        watch.after(0, &[queue(7, 1, 1), other(1)]);
        assert_eq!(watch.after(1000, &[queue(7, 1, 1), other(9)]), [(0, false)]);
    }
}
