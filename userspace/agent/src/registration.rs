//! Joining: from a peer's descriptors to listeners in their slots.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use synflip_abi::Member as Note;
use synflip_bpf::BpfError;
use synflip_plan::{GenerationId, Joined, ProcessId};
use synflip_wire::{ErrorCode, ListenerSpec, Name, Refusal};

use crate::{
    custody::Custody,
    error::{kernel, planned},
    fault::Point,
    fdstore, limits,
    process::Process,
    registry::Context,
    service::Service,
};

impl Service {
    /// A process joins a generation with listeners that have passed inspection.
    pub(crate) fn register(
        &mut self,
        process: ProcessId,
        generation: Option<&Name>,
        listeners: Vec<Custody>,
        context: &mut Context,
    ) -> Result<Name, Refusal> {
        for (at, listener) in listeners.iter().enumerate() {
            if listeners[..at]
                .iter()
                .any(|other| other.cookie == listener.cookie)
            {
                let text = format!("{}: this listener came twice", listener.address);
                return Err(Refusal::new(ErrorCode::BadListener, text));
            }
            let siblings = self.custody.values().chain(&listeners[..at]);
            for sibling in siblings {
                if let Some(refusal) = listener.differs_from(sibling) {
                    return Err(refusal);
                }
            }
        }
        if self.plan.generations().len() >= limits::GENERATIONS {
            let text = format!(
                "{}: {} generations are registered; retire some",
                self.name,
                limits::GENERATIONS
            );
            return Err(Refusal::new(ErrorCode::LimitReached, text));
        }
        let keys: Vec<(SocketAddr, u64)> = listeners
            .iter()
            .map(|listener| (listener.address, listener.cookie))
            .collect();
        let joined = self
            .plan
            .join(process, generation.map(Name::as_str), &keys)
            .map_err(|error| planned(self.name.as_str(), &error))?;
        let pid = context.peers.get(process).map_or(0, |peer| peer.pid);
        let by = Process::of(pid);
        if let Err(error) = self.place(&joined, &listeners, by) {
            for slot in joined
                .slots
                .iter()
                .filter(|slot| !joined.known.contains(slot))
            {
                self.clear(*slot);
            }
            self.plan.unjoin(&joined);
            return Err(kernel(&error));
        }
        let count = listeners.len();
        for listener in &listeners {
            fdstore::keep(listener);
            self.faults.reach(Point::Stored);
        }
        self.custody
            .extend(joined.slots.iter().copied().zip(listeners));
        let name = self.generation_name(joined.generation);
        if joined.known.is_empty() {
            self.note(&name, format!("registered {count} listeners"));
        } else {
            self.note(&name, format!("a process is back with {count} listeners"));
            for slot in &joined.known {
                self.remark(*slot, |note| Note {
                    pid: by.pid,
                    pid_namespace: by.namespace,
                    started: by.started,
                    ..note
                });
                self.prepare(*slot);
            }
            self.greet(joined.generation, context);
        }
        self.faults.reach(Point::Registered);
        Ok(name)
    }

    /// Puts listeners into their slots and the program on their reuseport groups.
    fn place(
        &mut self,
        joined: &Joined,
        listeners: &[Custody],
        by: Process,
    ) -> Result<(), BpfError> {
        let mut attached = Vec::new();
        for (slot, listener) in joined.slots.iter().zip(listeners) {
            let Some(endpoint) = self.endpoint(listener.address) else {
                continue;
            };
            if !joined.known.contains(slot) {
                self.exhume(listener.cookie);
                let note = self.note_of(joined.generation, endpoint, listener, by);
                self.steering.fill(*slot, listener.as_fd())?;
                self.faults.reach(Point::SlotFilled);
                self.steering.note(*slot, Some(&note))?;
                self.faults.reach(Point::NoteWritten);
            }
            // The group may be new, or a member of it may have changed its program.
            if !attached.contains(&endpoint) {
                self.steering.attach(endpoint, listener.as_fd())?;
                self.faults.reach(Point::Attached);
                attached.push(endpoint);
            }
        }
        Ok(())
    }

    /// Attaches the program to each reuseport group again.
    ///
    /// Any member may have replaced it or taken it away. Nobody is told, and the kernel does not
    /// say which one a group has; attaching what is attached changes nothing.
    pub(crate) fn attach_again(&mut self) -> Result<(), BpfError> {
        let mut groups = BTreeMap::new();
        for listener in self.custody.values() {
            let Some(endpoint) = self.endpoint(listener.address) else {
                continue;
            };
            // One that was shut down has left the group, and would found one of its own.
            if matches!(groups.get(&endpoint), Some(Ok(()))) || listener.has_stopped() {
                continue;
            }
            groups.insert(endpoint, self.steering.attach(endpoint, listener.as_fd()));
        }
        groups.into_values().collect()
    }

    /// What the agent that comes after has to know of a listener.
    fn note_of(
        &self,
        generation: GenerationId,
        endpoint: u32,
        listener: &Custody,
        by: Process,
    ) -> Note {
        Note {
            generation: generation.0,
            name: Note::name_bytes(self.generation_name(generation).as_str()),
            owner_uid: self.owner_uid,
            pid: by.pid,
            pid_namespace: by.namespace,
            started: by.started,
            ..Note::registered(listener.cookie, endpoint, listener.address)
        }
    }
}

/// Inspects the descriptors that came with a registration.
///
/// Returns the listeners and the network namespace that the first of them is in.
pub(crate) fn inspect(
    specs: &[ListenerSpec],
    fds: Vec<OwnedFd>,
) -> Result<(Vec<Custody>, OwnedFd), Refusal> {
    let bad = |text: String| Refusal::new(ErrorCode::BadMessage, text);
    if specs.len() != fds.len() {
        let text = format!(
            "{} listeners were named, {} descriptors came",
            specs.len(),
            fds.len()
        );
        return Err(bad(text));
    }
    let mut netns = None;
    let mut listeners = Vec::with_capacity(fds.len());
    for (spec, fd) in specs.iter().zip(fds) {
        let (listener, its_netns) = Custody::take(fd, spec.address)?;
        netns.get_or_insert(its_netns);
        listeners.push(listener);
    }
    let netns = netns.ok_or_else(|| bad("a registration needs at least one listener".into()))?;
    Ok((listeners, netns))
}
