//! What the machine wants done, in few words.

use synflip_types::{Cookie, Epoch, GenerationId, Slot};

use super::{
    build::OPERATOR,
    inputs::{address, by, endpoint, name},
};
use crate::{
    Answer, DrainEnd, Effect, Event, Flip, Happened, Moment, Note, NoteState, PlanError, ProcessId,
    Table,
};

pub(super) fn fill(slot: u32, cookie: u64) -> Effect {
    let (slot, cookie) = (Slot(slot), Cookie(cookie));
    Effect::Fill { slot, cookie }
}

pub(super) fn keep(slot: u32, cookie: u64) -> Effect {
    let (slot, cookie) = (Slot(slot), Cookie(cookie));
    Effect::Keep { slot, cookie }
}

pub(super) fn fetch(slot: u32, from: ProcessId) -> Effect {
    let slot = Slot(slot);
    Effect::Fetch { slot, from }
}

pub(super) fn note(slot: u32, note: Note) -> Effect {
    let slot = Slot(slot);
    Effect::Note { slot, note }
}

/// Of a registration.
pub(super) fn attach(process: ProcessId) -> Effect {
    let join = Some(process);
    Effect::Attach { join }
}

/// In the middle of a drain, or because there is custody again.
pub(super) fn attach_again() -> Effect {
    Effect::Attach { join: None }
}

/// With the slots that the table names, and the cookie of the listener in each.
pub(super) fn publish(table: &Table, members: &[(u32, u64)]) -> Effect {
    let members = members
        .iter()
        .map(|(slot, cookie)| (Slot(*slot), Cookie(*cookie)));
    Effect::Publish {
        table: table.clone(),
        members: members.collect(),
    }
}

pub(super) fn table(generation: u32, epoch: u64, endpoints: &[&[u32]]) -> Table {
    Table::new(endpoints.iter().copied()).of(GenerationId(generation), epoch)
}

pub(super) fn read(of: &[u32]) -> Effect {
    Effect::Read {
        slots: of.iter().copied().map(Slot).collect(),
    }
}

pub(super) fn prepare(slot: u32, draining: bool) -> Effect {
    let slot = Slot(slot);
    Effect::Prepare { slot, draining }
}

pub(super) fn store(slot: u32) -> Effect {
    Effect::Store { slot: Slot(slot) }
}

pub(super) fn lend(slot: u32, to: ProcessId) -> Effect {
    let slot = Slot(slot);
    Effect::Lend { slot, to }
}

pub(super) fn relay(slot: u32) -> Effect {
    Effect::Relay { slot: Slot(slot) }
}

pub(super) fn clear(slot: u32) -> Effect {
    Effect::Clear { slot: Slot(slot) }
}

/// With nothing pending.
pub(super) fn close(slot: u32) -> Effect {
    close_with(slot, 0)
}

pub(super) fn close_with(slot: u32, lost: u32) -> Effect {
    let slot = Slot(slot);
    Effect::Close { slot, lost }
}

pub(super) fn answer(process: ProcessId, answer: Answer) -> Effect {
    let to = by(process);
    Effect::Answer { to, answer }
}

pub(super) fn done(process: ProcessId) -> Effect {
    answer(process, Answer::Done)
}

pub(super) fn registered(process: ProcessId, generation: &str) -> Effect {
    let generation = name(generation);
    answer(process, Answer::Registered { generation })
}

pub(super) fn refused(process: ProcessId, error: PlanError) -> Effect {
    answer(process, Answer::Refused(error))
}

pub(super) fn committed(from: Option<u32>, to: u32, epoch: u64, listeners: usize) -> Effect {
    let flip = Flip {
        from: from.map(GenerationId),
        to: GenerationId(to),
        epoch: Epoch(epoch),
        listeners,
    };
    answer(OPERATOR, Answer::Committed(flip))
}

pub(super) fn still_draining(generation: u32) -> Effect {
    let generation = GenerationId(generation);
    answer(OPERATOR, Answer::Draining { generation })
}

pub(super) fn drain_over(generation: u32, end: DrainEnd) -> Effect {
    let generation = Some(GenerationId(generation));
    answer(OPERATOR, Answer::DrainOver { generation, end })
}

pub(super) fn tell(to: ProcessId, event: Event) -> Effect {
    Effect::Tell { to, event }
}

pub(super) fn record(generation: u32, what: Happened) -> Effect {
    let generation = Some(GenerationId(generation));
    Effect::Record { generation, what }
}

pub(super) fn works(generation: u32, epoch: u64) -> Effect {
    let epoch = Epoch(epoch);
    record(generation, Happened::Working { epoch })
}

/// Of the service as a whole.
pub(super) fn record_all(what: Happened) -> Effect {
    let generation = None;
    Effect::Record { generation, what }
}

pub(super) fn held(port: u16) -> Effect {
    let endpoint = endpoint(port);
    record_all(Happened::Held { endpoint })
}

pub(super) fn given_up(port: u16) -> Effect {
    let endpoint = endpoint(port);
    record_all(Happened::GivenUp { endpoint })
}

pub(super) fn wake(at: u64) -> Effect {
    Effect::Wake { at: Moment(at) }
}

/// The note of a listener at a port, of generation `v…`; nobody holds it.
pub(super) fn listener(port: u16, cookie: u64, generation: u32) -> Note {
    Note {
        cookie: Cookie(cookie),
        endpoint: endpoint(port),
        address: address(port),
        generation: GenerationId(generation),
        name: name(&format!("v{generation}")),
        state: NoteState::Registered,
        ready: false,
        adopted: false,
        process: None,
    }
}

impl Note {
    /// Who holds it, and is not ready.
    pub(super) fn of(self, process: ProcessId) -> Self {
        Self {
            process: Some(process),
            ..self
        }
    }

    /// Who holds it, and accepts.
    pub(super) fn ready(self, process: ProcessId) -> Self {
        Self {
            ready: true,
            ..self.of(process)
        }
    }

    pub(super) fn adopted(self) -> Self {
        Self {
            adopted: true,
            ..self
        }
    }

    pub(super) fn leaving(self, epoch: u64) -> Self {
        self.in_state(NoteState::Leaving(Epoch(epoch)))
    }

    pub(super) fn kept(self, epoch: u64) -> Self {
        self.in_state(NoteState::Kept(Epoch(epoch)))
    }

    pub(super) fn tombstone(self) -> Self {
        self.in_state(NoteState::Tombstone)
    }

    fn in_state(self, state: NoteState) -> Self {
        Self { state, ..self }
    }
}

/// Drops what only sets an alarm, where a test is not about it.
pub(super) fn without_wakes(effects: Vec<Effect>) -> Vec<Effect> {
    let is_wake = |effect: &Effect| matches!(effect, Effect::Wake { .. });
    effects
        .into_iter()
        .filter(|effect| !is_wake(effect))
        .collect()
}
