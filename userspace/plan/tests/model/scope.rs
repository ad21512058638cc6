//! How much there is of each thing in one search.

use crate::{budget::Budget, planted::Mistake};

/// A listener that a process may open.
#[derive(Clone, Debug)]
pub(crate) struct SockSpec {
    pub(crate) endpoint: usize,
}

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct ProcSpec {
    pub(crate) generation: usize,
    pub(crate) socks: Vec<usize>,
    /// Whether it has the helper; one without is adopted by an operator.
    pub(crate) talks: bool,
}

/// What there is, and what may happen how often.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) socks: Vec<SockSpec>,
    pub(crate) procs: Vec<ProcSpec>,
    pub(crate) budget: Budget,
    /// Whether the newest listener of an endpoint is the first of its hash bucket (IPv4), or the
    /// oldest (IPv6).
    pub(crate) newest_first: bool,
    /// Whether systemd keeps descriptors for the agent.
    pub(crate) store: bool,
    /// Whether connections may be on the way between choosing a listener and being a request there.
    pub(crate) flights: bool,
    /// Whether operators may have the old generation kept.
    pub(crate) keep: bool,
    /// Whether operators may retire by force.
    pub(crate) force: bool,
    pub(crate) hold: u64,
    pub(crate) migrates: bool,
    /// What is done wrong on purpose.
    pub(crate) mistake: Option<Mistake>,
}

impl Scope {
    pub(crate) fn generations(&self) -> usize {
        let numbers = self.procs.iter().map(|process| process.generation + 1);
        numbers.max().unwrap_or(0)
    }

    /// The generation that a listener is of.
    pub(crate) fn generation_of(&self, sock: usize) -> usize {
        let mut procs = self.procs.iter();
        let its = procs.find(|process| process.socks.contains(&sock));
        its.map_or(usize::MAX, |process| process.generation)
    }

    /// The listeners of an endpoint in the order of their hash bucket.
    pub(crate) fn bucket(&self, endpoint: usize) -> Vec<usize> {
        let all = 0..self.socks.len();
        let its = all.filter(|sock| self.socks[*sock].endpoint == endpoint);
        let mut bucket: Vec<usize> = its.collect();
        if self.newest_first {
            bucket.reverse();
        }
        bucket
    }
}
