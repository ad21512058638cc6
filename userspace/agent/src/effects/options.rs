//! Socket options that a generation's phase asks for.

use std::io;

use synflip_abi::Member;
use synflip_types::Slot;

use super::Executor;

impl Executor {
    /// Turns TCP_DEFER_ACCEPT off while a generation drains, and on again, as it was, when the
    /// generation works again.
    ///
    /// With it a handshake stays half-open until the client has sent data, for minutes; without it
    /// the client's next acknowledgement completes the handshake ([`tcp_check_req`], 5.10 to 7.3).
    /// What it was is noted beside the slot.
    ///
    /// [`tcp_check_req`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_minisocks.c
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
            // The note first: if the agent dies in between, the next one knows what to restore.
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
