//! Taking up what an earlier agent has left in the kernel.
//!
//! What has become of it is decided by the machine (`synflip_plan::Service::recovered`); here it is
//! found: notes, sockets, descriptors that systemd has kept, and processes that live.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use synflip_abi::{MAX_ENDPOINTS, Member, MemberState};
use synflip_bpf::{
    BpfError, CarriedOver, Found, Publisher, Steering, carry_over, leftovers, remove_pins, services,
};
use synflip_plan::{Inherited, Note, NoteState, ProcessId, Rules, Table};
use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{
    AgentError, Config,
    custody::Custody,
    effects::{Executor, Task, Worker},
    error::chain,
    fault::Point,
    fdstore::{self, Kept},
    follow,
    foreign::Foreign,
    peers,
    process::Process,
    registry::Registry,
    selftest,
    service::{Service, moment},
    timeline::Timeline,
};

impl Registry {
    /// Takes up every service that has pins and a listener that is still open; removes the pins
    /// of the others.
    ///
    /// Nothing changes for new connections: the kernel has gone on steering, and does.
    pub(crate) fn recover(&mut self, mut kept: Kept) -> Result<(), AgentError> {
        self.carry_over();
        clean_up(&self.config.bpffs);
        for Found { pins, service } in services(&self.config.bpffs)? {
            let service = service.unwrap_or_default();
            if selftest::is_under_way(&service) {
                continue;
            }
            match service.parse() {
                Ok(name) => self.take_up(&name, pins, &mut kept)?,
                Err(_) => discard(&pins, "not a service's"),
            }
        }
        // What systemd has kept of listeners that no service has noted.
        let (cookies, fds): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        cookies.into_iter().for_each(fdstore::forget);
        drop(Foreign::from(fds));
        Ok(())
    }

    /// Makes services that an agent of version 2 has left this version's.
    fn carry_over(&self) {
        let Config { bpffs, object, .. } = &self.config;
        for (pins, done) in carry_over(bpffs, object, self.setting.variant) {
            match done {
                Ok(CarriedOver {
                    service, listeners, ..
                }) => tracing::info!(%service, listeners, "carried over from version 2"),
                Err(error) => {
                    tracing::warn!("{} is not carried over: {}", pins.display(), chain(&error));
                }
            }
        }
    }

    fn take_up(&mut self, name: &Name, dir: PathBuf, kept: &mut Kept) -> Result<(), AgentError> {
        let setting = self.setting.clone();
        let opened = Steering::open(dir.clone(), setting.object.clone(), setting.variant);
        let (mut steering, publisher) = match opened {
            Ok(opened) => opened,
            Err(error @ BpfError::Foreign { .. }) => {
                discard(&dir, &chain(&error));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let members = open_listeners(&mut steering, kept)?;
        setting.faults.reach(Point::Recovering);
        let Some(owner_uid) = members.values().next().map(|member| member.owner_uid) else {
            steering.unpin()?;
            tracing::info!(service = %name, "pins removed: no listener of it is open");
            return Ok(());
        };
        let published = published(&publisher)?;
        let timeline = Timeline::of(&steering.timeline()?);
        let slots = steering.slots()?;
        let kernel = (steering, publisher);
        let mut executor =
            Executor::taken_up(name.clone(), owner_uid, setting, kernel, members.clone());
        let mut processes = Processes::default();
        let mut groups = Vec::new();
        let mut left = Vec::new();
        for (slot, member) in &members {
            let custody = kept.remove(&Cookie(member.cookie)).map(Custody::of);
            let is_kept = match custody {
                Some(Ok((listener, netns))) => {
                    groups.push(listener.group.clone());
                    executor.take_back(*slot, listener, &netns);
                    true
                }
                Some(Err(error)) => {
                    tracing::warn!(service = %name, "kept by systemd: {error}");
                    false
                }
                None => false,
            };
            let process = processes.find(member);
            if let Some(note) = note(member, process) {
                left.push(Inherited {
                    slot: *slot,
                    note,
                    lives: process.is_some_and(|process| processes.lives(process)),
                    kept: is_kept,
                });
            }
        }
        self.host.take(name, owner_uid, groups);
        let worker = Worker::start(executor).map_err(AgentError::io("starting a thread"))?;
        let mut inherited = BTreeMap::new();
        for (process, identity, pidfd) in processes.living {
            inherited.insert(process, identity.pid);
            let watched = pidfd
                .try_clone()
                .map_err(AgentError::io("following a process"))?;
            follow::until_it_ends(watched, process, self.setting.messages.clone());
            worker.give(Task::Followed {
                process,
                identity,
                pidfd,
            });
        }
        let now = moment(self.started);
        let rules = Rules {
            slots,
            ..self.rules
        };
        let (machine, effects) = synflip_plan::Service::recovered(rules, published, &left, now);
        let mut service = Service::new(name.clone(), machine, worker, self.started);
        service.timeline = timeline;
        service.inherited = inherited;
        self.setting.faults.reach(Point::Restored);
        let listeners = left.len();
        tracing::info!(service = %name, listeners, "taken up where it was left");
        service.carry_out(effects, &self.peers);
        service.worker.give(Task::TakenUp);
        self.services.insert(name.clone(), service);
        Ok(())
    }
}

/// The processes that notes name.
#[derive(Default)]
struct Processes {
    known: HashMap<(u32, u32, u64), Option<ProcessId>>,
    living: Vec<(ProcessId, Process, OwnedFd)>,
}

impl Processes {
    /// The number of the process that a note names; none if it has left, or certainly ended.
    fn find(&mut self, member: &Member) -> Option<ProcessId> {
        if member.later[Member::FLAGS] & Member::LEFT != 0 {
            return None;
        }
        let process = Process {
            pid: member.pid,
            namespace: member.pid_namespace,
            started: member.started,
        };
        let living = &mut self.living;
        let key = (process.pid, process.namespace, process.started);
        *self.known.entry(key).or_insert_with(|| {
            if process.has_ended() {
                return None;
            }
            let id = peers::new_id();
            if let Some(pidfd) = follow::open(process) {
                living.push((id, process, pidfd));
            }
            Some(id)
        })
    }

    fn lives(&self, process: ProcessId) -> bool {
        self.living.iter().any(|(id, ..)| *id == process)
    }
}

/// What the machine is told of a note.
fn note(member: &Member, process: Option<ProcessId>) -> Option<Note> {
    let epoch = Epoch(member.left_at.into());
    Some(Note {
        cookie: Cookie(member.cookie),
        endpoint: EndpointId(member.endpoint),
        address: Endpoint::tcp(member.address),
        generation: GenerationId(member.generation),
        name: member.name()?.parse().ok()?,
        state: match member.state {
            MemberState::Registered => NoteState::Registered,
            MemberState::Kept => NoteState::Kept(epoch),
            MemberState::Leaving => NoteState::Leaving(epoch),
            MemberState::Tombstone => NoteState::Tombstone,
        },
        ready: member.later[Member::FLAGS] & Member::READY != 0,
        adopted: member.later[Member::FLAGS] & Member::ADOPTED != 0,
        process,
    })
}

fn published(publisher: &Publisher) -> Result<Option<Table>, BpfError> {
    Ok(publisher
        .published()?
        .as_deref()
        .and_then(Table::from_words))
}

/// Removes what agents of other versions have left and nobody needs.
fn clean_up(bpffs: &Path) {
    for leftover in leftovers(bpffs) {
        let name = leftover.dir.file_name().and_then(|name| name.to_str());
        if name.is_some_and(selftest::is_under_way) {
            continue;
        }
        let dir = leftover.dir.display();
        match leftover.open {
            Some(0) => discard(&leftover.dir, "no listener of it is open"),
            Some(listeners) => tracing::warn!(
                listeners,
                "an agent of another version has left {dir}, which is in use until its servers \
                 have registered with this one"
            ),
            None => tracing::warn!("an agent of another version has left {dir}, unintelligibly"),
        }
    }
}

/// Removes pins that are of no use; what is left must not keep the agent from starting.
fn discard(pins: &Path, why: &str) {
    match remove_pins(pins) {
        Ok(()) => tracing::warn!("{} removed: {why}", pins.display()),
        Err(error) => tracing::warn!("{}", chain(&error)),
    }
}

/// The noted listeners that are still open; other slots are emptied.
///
/// A tombstone is one only as long as somebody holds it open.
fn open_listeners(
    steering: &mut Steering,
    kept: &Kept,
) -> Result<BTreeMap<Slot, Member>, BpfError> {
    let mut open = BTreeMap::new();
    for slot in 0..steering.slots()? {
        match steering.member(slot)? {
            (Some(note), Some(cookie))
                if note.cookie == cookie
                    && note.endpoint < MAX_ENDPOINTS
                    && (note.state != MemberState::Tombstone
                        || kept.contains_key(&Cookie(cookie))) =>
            {
                open.insert(Slot(slot), note);
            }
            (None, None) => {}
            _ => steering.clear(slot)?,
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_left_is_not_one_that_nothing_is_known_of() {
        let address = "127.0.0.1:80".parse().expect("an address");
        let mut member = Member::registered(1, 0, address);
        let mut processes = Processes::default();
        assert!(processes.find(&member).is_some());
        member.later[Member::FLAGS] |= Member::LEFT;
        assert_eq!(processes.find(&member), None);
    }
}
