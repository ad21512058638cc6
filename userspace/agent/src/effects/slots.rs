//! Listeners in their slots, in custody, and what is noted beside them.

use std::os::fd::AsFd as _;

use synflip_abi::{Member, MemberState};
use synflip_bpf::{Publisher, Steering, service_dir};
use synflip_plan::{Input, Note, NoteState, ProcessId};
use synflip_types::{Cookie, Endpoint, EndpointId, Slot};

use super::Executor;
use crate::{custody::Custody, error::chain, fdstore, fetch, process::Process};

impl Executor {
    /// The service's maps and programs; made and pinned if they are not there.
    fn kernel(&mut self) -> Result<&mut (Steering, Publisher), String> {
        if self.kernel.is_none() {
            let setting = &self.setting;
            let dir = service_dir(&setting.bpffs, self.service.as_str());
            let opened = Steering::open(dir, setting.object.clone(), setting.variant);
            self.kernel = Some(opened.map_err(|error| chain(&error))?);
            let owner_uid = self.owner_uid;
            tracing::info!(service = %self.service, owner_uid, "new service");
        }
        self.kernel.as_mut().ok_or_else(String::new)
    }

    pub(super) fn fill(&mut self, slot: Slot, cookie: Cookie) {
        self.watch.brought();
        if let Err(why) = self.try_fill(slot, cookie) {
            self.report(Input::NotFilled { slot, why });
        }
    }

    fn try_fill(&mut self, slot: Slot, cookie: Cookie) -> Result<(), String> {
        let listener = self
            .incoming(cookie)
            .ok_or_else(|| "its descriptor has not come".to_owned())?;
        if self.tables.is_none() {
            return Err(
                "the listener tables of its network namespace cannot be read (another namespace \
                 than the agent's needs CAP_SYS_ADMIN)"
                    .into(),
            );
        }
        let filled = match self.kernel() {
            Ok((steering, _)) => steering
                .fill(slot.0, listener.as_fd())
                .map_err(|error| format!("{}: {}", listener.address, chain(&error))),
            Err(why) => Err(why),
        };
        if filled.is_err() {
            // Kept all the same: to close it is the machine's to decide.
            self.unfilled.insert(slot);
        }
        self.forget_places();
        self.custody.insert(slot, listener);
        filled
    }

    pub(super) fn keep(&mut self, slot: Slot, cookie: Cookie) {
        self.watch.brought();
        if let Some(listener) = self.incoming(cookie) {
            self.custody.insert(slot, listener);
        }
    }

    /// Takes a duplicate of a listener from a process that lives.
    pub(super) fn fetch(&mut self, slot: Slot, from: ProcessId) {
        let (Some(process), Some(pidfd)) = (self.processes.get(&from), self.followed.get(&from))
        else {
            return;
        };
        let Some(cookie) = self.notes.get(&slot).map(|note| Cookie(note.cookie)) else {
            return;
        };
        match fetch::listener(process.pid, pidfd.as_fd(), cookie).and_then(Custody::of) {
            Ok((listener, netns)) => {
                self.open_tables(&netns);
                self.custody.insert(slot, listener);
                self.report(Input::Fetched { slot });
            }
            Err(error) => tracing::warn!(
                service = %self.service, %slot, pid = process.pid,
                "its listener cannot be taken over: {}", chain(&error)
            ),
        }
    }

    pub(super) fn note(&mut self, slot: Slot, note: &Note) {
        let process = note
            .process
            .and_then(|process| self.processes.get(&process));
        let process = process.copied().unwrap_or(Process::UNKNOWN);
        let (state, left_at) = match note.state {
            NoteState::Registered => (MemberState::Registered, 0),
            NoteState::Kept(epoch) => (MemberState::Kept, epoch.0),
            NoteState::Leaving(epoch) => (MemberState::Leaving, epoch.0),
            NoteState::Tombstone => (MemberState::Tombstone, 0),
        };
        let before = self.notes.get(&slot);
        let mut later = before.map_or([0; Member::LATER_WORDS], |before| before.later);
        later[Member::FLAGS] = u64::from(note.ready) * Member::READY
            + u64::from(note.adopted) * Member::ADOPTED
            + u64::from(note.process.is_none()) * Member::LEFT;
        let defer_accept = before.map_or(0, |before| before.defer_accept);
        let member = Member {
            state,
            generation: note.generation.0,
            name: Member::name_bytes(note.name.as_str()),
            owner_uid: self.owner_uid,
            left_at: u32::try_from(left_at & 0xffff_ffff).unwrap_or(0),
            defer_accept,
            pid: process.pid,
            pid_namespace: process.namespace,
            started: process.started,
            later,
            ..Member::registered(note.cookie.0, note.endpoint.0, note.address.address())
        };
        self.number_is_of(note.endpoint, note.address);
        self.write(slot, member);
    }

    /// Forgets what was counted of an endpoint whose number is another's now.
    fn number_is_of(&mut self, number: EndpointId, endpoint: Endpoint) {
        let before = self.endpoints.insert(number, endpoint);
        if before.is_some_and(|before| before != endpoint)
            && let Some((steering, _)) = &mut self.kernel
            && let Err(error) = steering.clear_endpoint(number.0)
        {
            tracing::warn!(service = %self.service, %endpoint, "{}", chain(&error));
        }
    }

    pub(super) fn write(&mut self, slot: Slot, member: Member) {
        let Some((steering, _)) = &mut self.kernel else {
            return;
        };
        match steering.note(slot.0, Some(&member)) {
            Ok(()) => drop(self.notes.insert(slot, member)),
            Err(error) => self.warn(slot, &error),
        }
    }

    /// Empties a slot; its listener is no longer selected by anything.
    pub(super) fn clear(&mut self, slot: Slot) {
        self.unfilled.remove(&slot);
        self.notes.remove(&slot);
        if let Some((steering, _)) = &mut self.kernel
            && let Err(error) = steering.clear(slot.0)
        {
            self.warn(slot, &error);
        }
    }

    /// Closes the agent's duplicate, which is the last one if the server has closed its own.
    pub(super) fn close(&mut self, slot: Slot, lost: u32) {
        let Some(listener) = self.custody.remove(&slot) else {
            return;
        };
        let (cookie, address) = (listener.cookie, listener.address);
        self.watch.forget(slot);
        self.look_no_more(&listener);
        drop(listener);
        fdstore::forget(cookie);
        tracing::debug!(service = %self.service, %slot, %address, lost, "closed a listener");
    }
}
