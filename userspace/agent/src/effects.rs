//! Carrying out what the machine wants done: a thread for each service, which owns the service's
//! maps, programs and descriptors, and may block.
//!
//! It does one thing after the other, in the machine's order. Each kind of effect has one place:
//! [`slots`] (fill, keep, fetch, note, clear, close), [`publish`] (attach, barrier, publish),
//! [`read`] (read), [`options`] (prepare), [`probe`] (probe), [`fdstore`] (store), [`tell`] (lend, and what peers are
//! told, made ready by `service`) and [`relay`]. What the machine cannot ask for, because nobody
//! reports it, [`watch`] notices.

mod look;
mod options;
mod probe;
mod publish;
mod read;
mod slots;
mod tell;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use synflip_abi::Member;
use synflip_bpf::{Looker, Object, Publisher, Steering, Variant};
use synflip_plan::{Effect, EffectKind, Input, ProcessId, Reading};
use synflip_types::{Cookie, Endpoint, EndpointId, Name, Slot};
use synflip_wire::TimelineEntry;
use tokio::sync::mpsc;

use crate::{
    custody::Custody,
    error::chain,
    fault::{Faults, Point},
    fdstore,
    foreign::Foreign,
    peers::Outgoing,
    process::Process,
    queues::ListenTables,
    registry::{Message, Report},
    relay::Relay,
};

pub(crate) use worker::{Task, Worker};

/// Time between two looks at what the programs have logged, if the object is one that logs.
const LOGS: Duration = Duration::from_secs(1);

/// Figures for the status.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) readings: BTreeMap<Slot, Reading>,
    pub(crate) outcomes: BTreeMap<EndpointId, synflip_bpf::Outcomes>,
    pub(crate) selections: BTreeMap<Slot, synflip_bpf::Selections>,
}

/// What all services' threads are made with.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) bpffs: std::path::PathBuf,
    pub(crate) object: Object,
    pub(crate) variant: Variant,
    /// None if this kernel or this process cannot have it.
    pub(crate) looker: Option<Arc<Looker>>,
    pub(crate) faults: Faults,
    pub(crate) relay: Relay,
    pub(crate) messages: mpsc::Sender<Message>,
}

/// What the thread owns.
pub(crate) struct Executor {
    service: Name,
    owner_uid: u32,
    setting: Setting,
    /// None until the first listener comes, or if the maps could not be made: then it is tried
    /// again with the next one.
    kernel: Option<(Steering, Publisher)>,
    tables: Option<ListenTables>,
    /// None until the first look, or if there is no iterator.
    looks: Option<look::Looks>,
    watch: watch::Watch,
    custody: BTreeMap<Slot, Custody>,
    incoming: Vec<Custody>,
    /// Those in custody that the kernel has not taken into their slots: their group may be somebody
    /// else's, and gets no program.
    unfilled: BTreeSet<Slot>,
    notes: BTreeMap<Slot, Member>,
    /// Whose each endpoint's number is.
    endpoints: BTreeMap<EndpointId, Endpoint>,
    processes: HashMap<ProcessId, Process>,
    followed: HashMap<ProcessId, OwnedFd>,
    relay: Relay,
}

impl Executor {
    /// That of a new service.
    pub(crate) fn new(service: Name, owner_uid: u32, setting: Setting) -> Self {
        Self {
            service,
            owner_uid,
            relay: setting.relay.clone(),
            setting,
            kernel: None,
            tables: None,
            looks: None,
            watch: watch::Watch::default(),
            custody: BTreeMap::new(),
            incoming: Vec::new(),
            unfilled: BTreeSet::new(),
            notes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            processes: HashMap::new(),
            followed: HashMap::new(),
        }
    }

    /// That of a service which an earlier agent has left.
    pub(crate) fn taken_up(
        service: Name,
        owner_uid: u32,
        setting: Setting,
        kernel: (Steering, Publisher),
        notes: BTreeMap<Slot, Member>,
    ) -> Self {
        let of = |member: &Member| (EndpointId(member.endpoint), Endpoint::tcp(member.address));
        Self {
            kernel: Some(kernel),
            endpoints: notes.values().map(of).collect(),
            notes,
            ..Self::new(service, owner_uid, setting)
        }
    }

    /// Takes a listener that systemd has kept into custody.
    pub(crate) fn take_back(&mut self, slot: Slot, listener: Custody, netns: &OwnedFd) {
        self.open_tables(netns);
        self.custody.insert(slot, listener);
        self.watch.stored(slot);
    }

    fn run(mut self, inbox: &Receiver<Task>) {
        loop {
            let logs = self
                .kernel
                .as_ref()
                .is_some_and(|(steering, _)| steering.logs());
            let task = match self.watches() {
                Some(pause) => inbox.recv_timeout(pause),
                None if logs => inbox.recv_timeout(LOGS),
                None => inbox
                    .recv()
                    .map_err(|_ended| RecvTimeoutError::Disconnected),
            };
            match task {
                Ok(Task::Effect(Effect::End)) => return self.end(),
                Ok(task) => self.carry_out(task),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.watch_if_due();
            if let Some((steering, _)) = &mut self.kernel {
                steering.flush_logs();
            }
        }
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Incoming {
                process,
                identity,
                listeners,
                netns,
            } => {
                self.open_tables(&netns);
                self.processes.insert(process, identity);
                self.incoming = listeners;
            }
            Task::Known(known) => self.processes.retain(|process, _| known.contains(process)),
            Task::Placed => self.incoming.clear(),
            Task::Followed {
                process,
                identity,
                pidfd,
            } => {
                self.processes.insert(process, identity);
                self.followed.insert(process, pidfd);
            }
            Task::Ended(process) => self.report_end(process),
            Task::TakenUp => self.followed.clear(),
            Task::Effect(effect) => {
                let kind = effect.kind();
                self.reach(Point::Before(kind));
                self.effect(effect);
                self.reach(Point::After(kind));
            }
            Task::Send {
                to,
                kind,
                id,
                reply,
            } => {
                self.reach(Point::Before(kind));
                // What this answer refuses takes no connections any more when it is read.
                self.incoming.clear();
                let fds = Foreign::default();
                self.send(&to, Outgoing { id, reply, fds });
            }
            Task::Append(entry) => {
                self.reach(Point::Before(EffectKind::Record));
                self.append(&entry);
                self.reach(Point::After(EffectKind::Record));
            }
            Task::Lend { slot, to } => {
                self.reach(Point::Before(EffectKind::Lend));
                self.lend(slot, &to);
            }
            Task::Survey {
                slots,
                endpoints,
                answer,
            } => {
                // Whoever asked may have gone away.
                drop(answer.send(self.survey(&slots, &endpoints)));
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Fill { slot, cookie } => self.fill(slot, cookie),
            Effect::Keep { slot, cookie } => self.keep(slot, cookie),
            Effect::Fetch { slot, from } => self.fetch(slot, from),
            Effect::Note { slot, note } => self.note(slot, &note),
            Effect::Attach { join } => {
                let result = self.attach();
                self.report(Input::Attached { join, result });
            }
            Effect::Barrier => self.barrier(),
            Effect::Publish { table, members } => self.publish(&table, &members),
            Effect::Read { slots } => {
                let readings = self.read(&slots);
                self.report(Input::Readings(readings));
            }
            Effect::Prepare { slot, draining } => self.prepare(slot, draining),
            Effect::Store { slot } => {
                if let Some(listener) = self.custody.get(&slot) {
                    fdstore::keep(listener);
                    self.watch.stored(slot);
                }
            }
            Effect::Probe { slot } => self.probe(slot),
            Effect::Relay { slot } => {
                if let Some(listener) = self.custody.get(&slot) {
                    let connections = self.relay.take_queue(&self.service, listener);
                    if connections > 0 {
                        tracing::info!(service = %self.service, connections, "relaying");
                    }
                }
            }
            Effect::Clear { slot } => self.clear(slot),
            Effect::Close { slot, lost } => self.close(slot, lost),
            // These are not carried out here: the registry makes messages of them, keeps time and
            // the timeline, and the thread ends with the last.
            Effect::Lend { .. }
            | Effect::Answer { .. }
            | Effect::Tell { .. }
            | Effect::Record { .. }
            | Effect::Wake { .. }
            | Effect::End => {}
        }
    }

    fn append(&mut self, entry: &TimelineEntry) {
        let Some((steering, _)) = &mut self.kernel else {
            return;
        };
        let appended = steering.append(entry.at_ms, entry.generation.as_str(), &entry.what);
        if let Err(error) = appended {
            tracing::warn!(service = %self.service, "timeline: {}", chain(&error));
        }
    }

    /// The service is over: nothing of it is left but its pins.
    fn end(mut self) {
        self.reach(Point::Before(EffectKind::End));
        self.give_back();
        if let Some((steering, _)) = self.kernel.take() {
            match steering.unpin() {
                Ok(()) => tracing::info!(service = %self.service, "service over"),
                Err(error) => tracing::warn!(service = %self.service, "{}", chain(&error)),
            }
        }
        self.reach(Point::After(EffectKind::End));
        let Setting { messages, .. } = self.setting.clone();
        let service = self.service.clone();
        // The loop waits for the thread once it has heard of its end: what it still holds is closed
        // before, however long that takes.
        drop(self);
        let report = Report::Ended;
        // Without a receiver the agent is ending.
        drop(messages.blocking_send(Message::Report { service, report }));
    }

    fn reach(&self, point: Point) {
        self.setting.faults.reach(point);
    }

    /// Opens the listener tables of the service's network namespace.
    fn open_tables(&mut self, netns: &OwnedFd) {
        use std::os::fd::AsFd as _;
        if self.tables.is_some() {
            return;
        }
        match ListenTables::open(netns.as_fd()) {
            Ok(tables) => self.tables = Some(tables),
            Err(error) => tracing::warn!(
                service = %self.service,
                "the listener tables of its network namespace cannot be read: {error}"
            ),
        }
    }

    fn incoming(&mut self, cookie: Cookie) -> Option<Custody> {
        let at = self
            .incoming
            .iter()
            .position(|listener| listener.cookie == cookie)?;
        Some(self.incoming.swap_remove(at))
    }

    fn warn(&self, slot: Slot, error: &dyn std::error::Error) {
        tracing::warn!(service = %self.service, %slot, "{}", chain(error));
    }
}
