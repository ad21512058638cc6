//! What the agent notes of a listener for the agent that comes after, and acts on itself.

use synflip_abi::{Member as Note, MemberState};
use synflip_plan::{GenerationId, Phase, Slot};

use crate::{error::chain, service::Service};

impl Service {
    /// What the agent that comes after has to know of a listener.
    pub(crate) fn noted(&self, slot: Slot) -> Option<Note> {
        match self.steering.member(slot) {
            Ok((note, _)) => note,
            Err(error) => {
                tracing::warn!(service = %self.name, slot, "{}", chain(&error));
                None
            }
        }
    }

    /// Changes what is noted of a listener.
    pub(crate) fn remark(&mut self, slot: Slot, change: impl FnOnce(Note) -> Note) {
        let Some(note) = self.noted(slot) else {
            return;
        };
        if let Err(error) = self.steering.note(slot, Some(&change(note))) {
            tracing::warn!(service = %self.name, slot, "{}", chain(&error));
        }
    }

    /// Notes that a generation is being flipped away from, or is retired: then the epoch is 0.
    ///
    /// To be called before a flip is published: an agent that comes after one which has died in
    /// between goes by the table, and takes no notice if that has not changed.
    pub(crate) fn note_departure(&mut self, id: GenerationId, state: MemberState, epoch: u64) {
        let left_at = u32::try_from(epoch & 0xffff_ffff).unwrap_or(0);
        for slot in self.slots_of(id) {
            self.remark(slot, |note| Note {
                state,
                left_at,
                ..note
            });
        }
    }

    /// Notes that a generation works again.
    pub(crate) fn note_return(&mut self, id: GenerationId) {
        for slot in self.slots_of(id) {
            self.remark(slot, |note| Note {
                state: MemberState::Registered,
                ..note
            });
        }
    }

    /// Gives each listener of a generation the options that its phase asks for.
    pub(crate) fn prepare_all(&mut self, id: GenerationId) {
        for slot in self.slots_of(id) {
            self.prepare(slot);
        }
    }

    /// Gives a listener the options that its generation's phase asks for.
    ///
    /// TCP_DEFER_ACCEPT holds a handshake back for minutes: while a generation drains it is off,
    /// and the next SYN-ACK's acknowledgement completes the handshake. What it was is noted, and
    /// set again when the generation works again.
    pub(crate) fn prepare(&mut self, slot: Slot) {
        let mut generations = self.plan.generations().iter();
        let its = generations.find(|g| g.members.iter().any(|member| member.slot == slot));
        let (Some(phase), Some(listener)) = (its.map(|g| g.phase), self.custody.get(&slot)) else {
            return;
        };
        let done = match phase {
            Phase::Draining | Phase::Standby | Phase::Drained => match listener.defer_accept() {
                Ok(0) => Ok(()),
                Ok(seconds) => {
                    // Before it is off: it must not be forgotten with this agent.
                    self.remark(slot, |note| Note {
                        defer_accept: seconds,
                        ..note
                    });
                    self.defer_accept(slot, 0)
                }
                Err(error) => Err(error),
            },
            Phase::Registered | Phase::Ready | Phase::Working => {
                match self.noted(slot).map_or(0, |note| note.defer_accept) {
                    0 => Ok(()),
                    seconds => {
                        let done = self.defer_accept(slot, seconds);
                        self.remark(slot, |note| Note {
                            defer_accept: 0,
                            ..note
                        });
                        done
                    }
                }
            }
        };
        if let Err(error) = done {
            tracing::warn!(service = %self.name, slot, "TCP_DEFER_ACCEPT: {error}");
        }
    }

    fn defer_accept(&self, slot: Slot, seconds: u32) -> std::io::Result<()> {
        let listener = self.custody.get(&slot);
        listener.map_or(Ok(()), |listener| listener.set_defer_accept(seconds))
    }

    fn slots_of(&self, id: GenerationId) -> Vec<Slot> {
        let generation = self.plan.generation(id);
        let members = generation.map(|generation| generation.members.as_slice());
        let members = members.unwrap_or_default().iter();
        members.map(|member| member.slot).collect()
    }
}
