//! What the machine is told, in few words.

use std::net::Ipv4Addr;

use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, Name, RequestId, Slot};

use super::build::{ALT, OPERATOR};
use crate::{
    Asker, Departure, FlipRequest, Input, Join, NotPublished, Pending, ProcessId, Reading, Target,
    Waiting,
};

pub(super) fn name(name: &str) -> Name {
    name.parse().unwrap()
}

pub(super) fn address(port: u16) -> Endpoint {
    Endpoint::tcp((Ipv4Addr::LOCALHOST, port).into())
}

pub(super) fn endpoint(port: u16) -> EndpointId {
    EndpointId(u32::from(port == ALT))
}

pub(super) fn by(process: ProcessId) -> Asker {
    Asker {
        process,
        request: RequestId(7),
    }
}

/// Why the kernel refuses.
pub(super) const WHY: &str = "no memory";

pub(super) fn joining(process: ProcessId, listeners: &[(u16, u64)]) -> Join {
    let listener = |(port, cookie): &(u16, u64)| (address(*port), Cookie(*cookie));
    Join {
        by: by(process),
        answer: by(process),
        name: None,
        listeners: listeners.iter().map(listener).collect(),
        talks: true,
    }
}

pub(super) fn join(process: ProcessId, named: &str, listeners: &[(u16, u64)]) -> Input {
    Input::Join(Join {
        name: Some(name(named)),
        ..joining(process, listeners)
    })
}

/// The operator has a process adopted that knows nothing of it.
pub(super) fn adopt(process: ProcessId, named: &str, listeners: &[(u16, u64)]) -> Input {
    Input::Join(Join {
        name: Some(name(named)),
        answer: by(OPERATOR),
        talks: false,
        ..joining(process, listeners)
    })
}

pub(super) fn ready(process: ProcessId) -> Input {
    Input::Ready { by: by(process) }
}

pub(super) fn died(process: ProcessId) -> Input {
    let how = Departure::Died;
    Input::Left { process, how }
}

pub(super) fn closed(process: ProcessId) -> Input {
    let how = Departure::Closed;
    Input::Left { process, how }
}

pub(super) fn flip(to: &str) -> Input {
    Flips::to(to).input()
}

/// A flip with options.
pub(super) struct Flips(FlipRequest);

impl Flips {
    pub(super) fn to(to: &str) -> Self {
        Self(FlipRequest {
            by: by(OPERATOR),
            target: match to {
                "latest" => Target::Latest,
                "previous" => Target::Previous,
                other => Target::Named(name(other)),
            },
            if_epoch: None,
            drain_ms: 0,
            keep: false,
            drop: Vec::new(),
        })
    }

    pub(super) fn keep(mut self) -> Self {
        self.0.keep = true;
        self
    }

    pub(super) fn drop(mut self, port: u16) -> Self {
        self.0.drop.push(address(port));
        self
    }

    pub(super) fn wait(mut self, ms: u64) -> Self {
        self.0.drain_ms = ms;
        self
    }

    pub(super) fn if_epoch(mut self, epoch: u64) -> Self {
        self.0.if_epoch = Some(Epoch(epoch));
        self
    }

    pub(super) fn input(self) -> Input {
        Input::Flip(self.0)
    }
}

pub(super) fn retire(generation: &str, force: bool) -> Input {
    Input::Retire {
        by: by(OPERATOR),
        generation: name(generation),
        force,
    }
}

pub(super) fn attached(join: Option<ProcessId>) -> Input {
    let result = Ok(());
    Input::Attached { join, result }
}

pub(super) fn published() -> Input {
    Input::Published(Ok(()))
}

/// The kernel has refused a table; with the slot whose listener is gone, if that is why.
pub(super) fn not_published(gone: Option<u32>) -> Input {
    let (gone, why) = (gone.map(Slot), WHY.to_owned());
    Input::Published(Err(NotPublished { gone, why }))
}

pub(super) fn emptied(process: ProcessId, cookies: &[u64]) -> Input {
    Input::Emptied {
        process,
        listeners: cookies.iter().copied().map(Cookie).collect(),
    }
}

pub(super) fn readings(all: &[(u32, Reading)]) -> Input {
    let all = all.iter().map(|(slot, reading)| (Slot(*slot), *reading));
    Input::Readings(all.collect())
}

/// A listener has so many queued connections, and so many handshakes that have begun.
pub(super) fn pending(queued: u32, half_open: u32) -> Reading {
    Reading::Pending(Pending {
        refcnt: 1 + queued + half_open,
        queued,
    })
}

/// In this slot somebody waits; whether another listener is accepted from meanwhile.
pub(super) fn waiting(slot: u32, queued: u32, beside: bool) -> Input {
    Input::Waiting(vec![waits(slot, queued, beside)])
}

pub(super) fn waits(slot: u32, queued: u32, beside: bool) -> Waiting {
    let slot = Slot(slot);
    Waiting {
        slot,
        queued,
        beside,
        lendable: true,
    }
}
