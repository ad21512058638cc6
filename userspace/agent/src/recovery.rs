//! Taking up what an earlier agent has left in the kernel.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use synflip_abi::{MAX_ENDPOINTS, MAX_SLOTS, Member as Note, MemberState};
use synflip_bpf::{
    BpfError, CarriedOver, Found, Publisher, Steering, carry_over, leftovers, remove_pins, services,
};
use synflip_plan::{GenerationId, Left, Phase, Slot, Table};
use synflip_wire::{Committed, Event, Name};

use crate::{
    AgentError, Config,
    certificate::Drain,
    custody::Custody,
    error::chain,
    fault::Point,
    fdstore::{self, Kept},
    process::Process,
    registry::{Context, Registry},
    requests::open_tables,
    selftest,
    service::Service,
    timeline::{Timeline, unix_ms},
};

/// Time between two looks at listeners whose processes have not come back.
const AGAIN: Duration = Duration::from_secs(1);

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
        // No pin knows these any more.
        kept.into_keys().for_each(fdstore::forget);
        Ok(())
    }

    /// Makes services that an agent of version 2 has left this version's.
    fn carry_over(&self) {
        let Config { bpffs, object, .. } = &self.config;
        for (pins, done) in carry_over(bpffs, object, self.context.variant) {
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
        let opened = Steering::open(
            dir.clone(),
            self.config.object.clone(),
            self.context.variant,
        );
        let (mut steering, publisher) = match opened {
            Ok(opened) => opened,
            Err(error @ BpfError::Foreign { .. }) => {
                discard(&dir, &chain(&error));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let left = listeners(&mut steering, kept)?;
        self.context.faults.reach(Point::Recovering);
        let Some((_, first)) = left.first() else {
            steering.unpin()?;
            tracing::info!(service = %name, "pins removed: no listener of it is open");
            return Ok(());
        };
        let mut service = Service::new(
            name.clone(),
            first.owner_uid,
            steering,
            publisher,
            self.context.faults.clone(),
        );
        service.timeline = Timeline::of(&service.steering.timeline()?);
        service.restore(&left)?;
        service.resume_custody(&left, kept);
        self.context.faults.reach(Point::Restored);
        self.services.insert(name.clone(), service);
        Ok(())
    }
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
fn listeners(steering: &mut Steering, kept: &Kept) -> Result<Vec<(Slot, Note)>, BpfError> {
    let mut left = Vec::new();
    for slot in 0..MAX_SLOTS {
        match steering.member(slot)? {
            (Some(note), Some(cookie))
                if note.cookie == cookie
                    && note.endpoint < MAX_ENDPOINTS
                    && (note.state != MemberState::Tombstone || kept.contains_key(&cookie)) =>
            {
                left.push((slot, note));
            }
            (None, None) => {}
            _ => steering.clear(slot)?,
        }
    }
    Ok(left)
}

impl Service {
    /// Makes the plan what it was, and goes on with its drains.
    fn restore(&mut self, notes: &[(Slot, Note)]) -> Result<(), BpfError> {
        let left: Vec<Left> = notes
            .iter()
            .map(|(slot, note)| Left {
                slot: *slot,
                cookie: note.cookie,
                endpoint: note.endpoint,
                address: note.address,
                generation: GenerationId(note.generation),
                name: note.name().unwrap_or_default().to_owned(),
                left_at: matches!(note.state, MemberState::Kept | MemberState::Leaving)
                    .then_some(note.left_at),
                keep: note.state == MemberState::Kept,
                tombstone: note.state == MemberState::Tombstone,
            })
            .collect();
        let published = self.publisher.as_ref().map(Publisher::published);
        let published = published.transpose()?.flatten();
        let published = published.as_deref().and_then(Table::from_words);
        self.plan = synflip_plan::Service::restored(published, &left);
        self.resume_drains(&left);
        let listeners = left.len();
        tracing::info!(service = %self.name, listeners, "taken up where it was left");
        Ok(())
    }

    /// Takes the listeners that systemd has kept back into custody.
    fn resume_custody(&mut self, notes: &[(Slot, Note)], kept: &mut Kept) {
        for (slot, note) in notes {
            let Some(fd) = kept.remove(&note.cookie) else {
                continue;
            };
            let (listener, netns) = match Custody::take(fd, note.address) {
                Ok(taken) => taken,
                Err(refusal) => {
                    tracing::warn!(service = %self.name, "kept by systemd: {refusal}");
                    continue;
                }
            };
            if self.tables.is_none() {
                self.tables = open_tables(&self.name, &netns).ok();
            }
            self.custody.insert(*slot, listener);
            self.prepare(*slot);
        }
    }

    /// Goes on with the drains that were under way.
    fn resume_drains(&mut self, left: &[Left]) {
        let Some(working) = self.plan.working() else {
            return;
        };
        let draining: Vec<GenerationId> = self
            .plan
            .generations()
            .iter()
            .filter(|generation| generation.phase == Phase::Draining)
            .map(|generation| generation.id)
            .collect();
        for id in draining {
            let its = || left.iter().filter(|listener| listener.generation == id);
            let flip = Committed {
                service: self.name.clone(),
                from: Some(self.generation_name(id)),
                to: self.generation_name(working),
                epoch: self.plan.epoch(),
                listeners: 0,
                commit_ms: 0.0,
                committed_at_ms: unix_ms(),
            };
            let keep = its().any(|listener| listener.keep);
            let listeners = its().map(|listener| (listener.slot, listener.address));
            self.drains
                .push(Drain::new(id, flip, keep, None, listeners));
        }
    }

    /// Whether the process that has registered a listener has certainly ended.
    fn has_ended(&self, slot: Slot) -> bool {
        let process = self.noted(slot).map(|note| Process {
            pid: note.pid,
            namespace: note.pid_namespace,
            started: note.started,
        });
        process.is_some_and(Process::has_ended)
    }

    /// Tells a process that has come back what has become of its generation.
    pub(crate) fn greet(&self, id: GenerationId, context: &mut Context) {
        let event = match self.plan.generation(id).map(|generation| generation.phase) {
            Some(Phase::Working) => Event::Working,
            Some(Phase::Draining) => Event::Draining,
            Some(Phase::Standby) => Event::Standby,
            Some(Phase::Drained) => Event::Drained,
            Some(Phase::Registered | Phase::Ready) | None => return,
        };
        self.tell(id, event, context);
    }

    /// Looks whether the listeners whose processes have not come back are still open.
    ///
    /// One that this agent holds is open in any case: its process has the hold time to come back,
    /// unless it has ended.
    pub(crate) fn watch_absent(&mut self, now: Instant, hold: Duration) {
        if self.absent_again.is_some_and(|again| again > now) {
            return;
        }
        self.absent_again = None;
        let held_long_enough = now.duration_since(self.since) >= hold;
        for member in self.plan.absent() {
            if self.custody.contains_key(&member.slot)
                && (held_long_enough || self.has_ended(member.slot))
            {
                self.plan.lose(member.slot);
                continue;
            }
            match self.steering.member(member.slot) {
                Ok((_, Some(cookie))) if cookie == member.cookie => {
                    self.absent_again = Some(now + AGAIN);
                }
                Ok(_) => self.plan.lose(member.slot),
                Err(error) => tracing::warn!(service = %self.name, "{}", chain(&error)),
            }
        }
    }
}
