//! Watching old generations until nothing is pending on them.

use std::time::Instant;

use synflip_plan::{Pending, Slot};
use synflip_wire::{DrainEnd, Event, Reply};

use crate::{certificate::Drain, error::chain, fault::Point, registry::Context, service::Service};

impl Service {
    /// Reads what is pending on the listeners of the drains that are due.
    pub(crate) fn watch_drains(&mut self, now: Instant, context: &mut Context) {
        let mut drains = std::mem::take(&mut self.drains);
        for drain in drains.iter_mut().filter(|drain| drain.next <= now) {
            self.sample(drain);
            if let Some(waiter) = drain.waiter {
                context
                    .peers
                    .hint(waiter.asker, Reply::Draining(drain.total()));
            }
        }
        // A generation that is just being flipped back to must not be told to close: the commit
        // ends its drain, and if there is none, the drain is over then.
        let back = self.plan.flipping_to();
        let is_over = |drain: &mut Drain| drain.is_over && Some(drain.generation) != back;
        for drain in drains.extract_if(.., is_over) {
            self.drained(&drain, context);
        }
        for drain in &mut drains {
            if let Some(waiter) = drain.waiter.take_if(|waiter| waiter.deadline <= now) {
                let certificate = drain.certificate(DrainEnd::DeadlinePassed);
                let name = self.generation_name(drain.generation);
                let left = drain.total();
                let (queued, half_open) = (left.queued, left.half_open);
                self.note(
                    &name,
                    format!("drain deadline passed: {queued} queued, {half_open} half-open left"),
                );
                context
                    .peers
                    .answer(waiter.asker, Reply::Drained(certificate));
            }
        }
        // A drain may have been superseded only by a flip, which is not handled in here.
        self.drains = drains;
    }

    /// Takes a reading of each of a drain's listeners.
    pub(crate) fn sample(&mut self, drain: &mut Drain) {
        let members = self
            .plan
            .generation(drain.generation)
            .map(|g| g.members.clone());
        let members = members.unwrap_or_default();
        let slots: Vec<Slot> = members.iter().map(|member| member.slot).collect();
        let mut came = false;
        for (slot, pending) in self.pending(&slots) {
            came |= drain.read(slot, pending);
            self.faults.reach(Point::ReadingQueues);
        }
        for slot in drain.slots() {
            // Migrated by closing it: nothing is pending where nothing is.
            if !slots.contains(&slot) {
                drain.read(
                    slot,
                    Pending {
                        refcnt: 1,
                        queued: 0,
                    },
                );
            }
        }
        let now = Instant::now();
        drain.again(now);
        self.secure(drain, came, now);
    }

    /// Ends a drain only when nothing is pending *and* the program is known to be on the groups
    /// since before that was read: a member may have taken it away, and then connections come to
    /// the old listeners too.
    fn secure(&mut self, drain: &mut Drain, came: bool, now: Instant) {
        if came {
            let generation = self.generation_name(drain.generation);
            tracing::warn!(
                service = %self.name, %generation,
                "connections came after the commit: a member of the reuseport group has replaced \
                 or detached the program; attaching it again"
            );
        }
        let is_empty = drain.is_empty();
        drain.is_over = is_empty && drain.attached;
        if drain.is_over {
            return;
        }
        drain.attached = is_empty;
        if is_empty || came {
            if let Err(error) = self.attach_again() {
                tracing::warn!(service = %self.name, "{}", chain(&error));
            }
            drain.again_soon(now);
        }
    }

    fn drained(&mut self, drain: &Drain, context: &mut Context) {
        let (id, keep) = (drain.generation, drain.keep);
        let name = self.generation_name(id);
        self.plan.drained(id, keep);
        self.faults.reach(Point::Drained);
        let (end, event) = if keep {
            (DrainEnd::Standby, Event::Standby)
        } else {
            (DrainEnd::Drained, Event::Drained)
        };
        let certificate = drain.certificate(end);
        let after = certificate.drained_after_ms.unwrap_or(0);
        let then = if keep { "; kept for a rollback" } else { "" };
        self.note(&name, format!("drained {after} ms after the commit{then}"));
        self.tell(id, event, context);
        if let Some(waiter) = drain.waiter {
            context
                .peers
                .answer(waiter.asker, Reply::Drained(certificate));
        }
        self.plan.forget(id);
    }
}
