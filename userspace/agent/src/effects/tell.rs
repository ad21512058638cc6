//! What a service's thread says to peers, and to the loop.

use synflip_plan::Input;
use synflip_types::Slot;
use synflip_wire::Reply;

use super::Executor;
use crate::{
    peers::{Outbox, Outgoing},
    registry::{Message, Report},
};

impl Executor {
    /// Lends a peer a listener that nobody serves.
    pub(super) fn lend(&self, slot: Slot, to: &Outbox) {
        let Some(listener) = self.custody.get(&slot) else {
            return;
        };
        let queue = Reply::Queue {
            endpoint: listener.group.endpoint,
            cookie: listener.cookie,
        };
        match listener.lend() {
            Ok(lent) => {
                tracing::debug!(service = %self.service, %slot, "its queue is lent");
                self.send(
                    to,
                    Outgoing {
                        id: None,
                        reply: queue,
                        fds: vec![lent].into(),
                    },
                );
            }
            Err(error) => {
                tracing::warn!(service = %self.service, %slot, "lending its queue: {error}");
            }
        }
    }

    /// Sends a peer a message; one that does not read loses its connection.
    pub(super) fn send(&self, to: &Outbox, message: Outgoing) {
        if to.messages.try_send(message).is_err() {
            self.tell(Message::Deaf { peer: to.peer });
        }
    }

    pub(super) fn report(&self, input: Input) {
        self.tell_report(Report::Input(input));
    }

    pub(super) fn tell_report(&self, report: Report) {
        let service = self.service.clone();
        self.tell(Message::Report { service, report });
    }

    pub(super) fn tell(&self, message: Message) {
        // Without a receiver the agent is ending: the next one finds out by itself.
        drop(self.setting.messages.blocking_send(message));
    }
}
