//! What is carried: counted by service, for the agents that are connected.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use synflip_types::Name;
use tokio::sync::watch;

use crate::Counts;

/// Services that are counted at one time; more only while they all have open connections.
const SERVICES: usize = 1024;

/// All counts, and whom to wake when one changes.
#[derive(Debug)]
pub(crate) struct Tally {
    services: RefCell<BTreeMap<Name, Rc<Cell<Counts>>>>,
    open: Cell<u64>,
    changed: watch::Sender<()>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            services: RefCell::default(),
            open: Cell::new(0),
            changed: watch::Sender::new(()),
        }
    }

    /// Wakes whenever a count changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Connections that are carried.
    pub(crate) fn open(&self) -> u64 {
        self.open.get()
    }

    /// The services whose counts are not those of `told`, which they are made to be.
    pub(crate) fn news(&self, told: &mut BTreeMap<Name, Counts>) -> Vec<(Name, Counts)> {
        let services = self.services.borrow();
        told.retain(|name, _| services.contains_key(name));
        let mut news = Vec::new();
        for (name, counts) in services.iter() {
            if told.insert(name.clone(), counts.get()) != Some(counts.get()) {
                news.push((name.clone(), counts.get()));
            }
        }
        news
    }

    /// A connection begins; it is open until the value that this returns is dropped.
    pub(crate) fn begin(self: &Rc<Self>, service: &Name) -> Open {
        let mut services = self.services.borrow_mut();
        if services.len() >= SERVICES && !services.contains_key(service) {
            services.retain(|_, counts| counts.get().open > 0);
        }
        let counts = Rc::clone(services.entry(service.clone()).or_default());
        drop(services);
        self.open.set(self.open.get() + 1);
        let open = Open {
            tally: Rc::clone(self),
            counts,
        };
        open.update(|counts| {
            counts.open += 1;
            counts.total += 1;
        });
        open
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub(crate) struct Open {
    tally: Rc<Tally>,
    counts: Rc<Cell<Counts>>,
}

impl Open {
    pub(crate) fn to_server(&self, bytes: usize) {
        self.update(|counts| counts.to_server += bytes as u64);
    }

    pub(crate) fn to_client(&self, bytes: usize) {
        self.update(|counts| counts.to_client += bytes as u64);
    }

    fn update(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
        self.tally.changed.send_replace(());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.open.set(self.tally.open.get() - 1);
        self.update(|counts| counts.open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let tally = Rc::new(Tally::new());
        let (web, dns): (Name, Name) = ("web".parse().unwrap(), "dns".parse().unwrap());
        let mut told = BTreeMap::new();
        let first = tally.begin(&web);
        let second = tally.begin(&web);
        let other = tally.begin(&dns);
        first.to_server(10);
        second.to_client(20);
        drop(second);
        let counts = Counts {
            open: 1,
            total: 2,
            to_server: 10,
            to_client: 20,
        };
        let news: BTreeMap<_, _> = tally.news(&mut told).into_iter().collect();
        assert_eq!((news.len(), news[&web], tally.open()), (2, counts, 2));
        assert!(tally.news(&mut told).is_empty());
        drop(other);
        let news = tally.news(&mut told);
        assert_eq!((news.len(), &news[0].0, news[0].1.open), (1, &dns, 0));
        drop(first);
        assert_eq!(tally.open(), 0);
    }

    #[test]
    fn services_that_are_over_do_not_pile_up() {
        let tally = Rc::new(Tally::new());
        let kept: Name = "kept".parse().unwrap();
        let open = tally.begin(&kept);
        let mut told = BTreeMap::new();
        for number in 0..3 * SERVICES {
            drop(tally.begin(&format!("s{number}").parse().unwrap()));
            tally.news(&mut told);
        }
        assert!(tally.services.borrow().len() <= SERVICES);
        assert!(told.len() <= SERVICES && told.contains_key(&kept));
        drop(open);
    }
}
