//! Socket options that a generation's phase asks for.

use std::io;

use synflip_abi::Member;
use synflip_types::Slot;

use super::Executor;

impl Executor {
    /// TCP_DEFER_ACCEPT holds a handshake back for minutes: while a generation drains it is off,
    /// and the next SYN-ACK's acknowledgement completes the handshake. What it was is noted, and
    /// set again when the generation works again.
    pub(super) fn prepare(&mut self, slot: Slot, draining: bool) {
        if let Err(error) = self.try_prepare(slot, draining) {
            tracing::warn!(service = %self.service, %slot, "TCP_DEFER_ACCEPT: {error}");
        }
    }

    fn try_prepare(&mut self, slot: Slot, draining: bool) -> io::Result<()> {
        let (Some(listener), Some(note)) = (self.custody.get(&slot), self.notes.get(&slot)) else {
            return Ok(());
        };
        let note = *note;
        let set = if draining {
            listener.defer_accept()?
        } else {
            note.defer_accept
        };
        if set == 0 {
            return Ok(());
        }
        if draining {
            // Before it is off: it must not be forgotten with this agent.
            self.write(
                slot,
                Member {
                    defer_accept: set,
                    ..note
                },
            );
            self.set_defer_accept(slot, 0)
        } else {
            let done = self.set_defer_accept(slot, set);
            self.write(
                slot,
                Member {
                    defer_accept: 0,
                    ..note
                },
            );
            done
        }
    }

    fn set_defer_accept(&self, slot: Slot, seconds: u32) -> io::Result<()> {
        let listener = self.custody.get(&slot);
        listener.map_or(Ok(()), |listener| listener.set_defer_accept(seconds))
    }
}
