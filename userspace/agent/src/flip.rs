//! The flip: from an operator's request to the table that the kernel follows.

use std::time::{Duration, Instant};

use synflip_abi::MemberState;
use synflip_bpf::{BpfError, Published, Publisher, Step};
use synflip_plan::{Change, Flip, GenerationId, ProcessId, Target};
use synflip_wire::{Committed, DrainEnd, Event, Refusal, Reply};

use crate::{
    certificate::{Drain, Waiter},
    error::{chain, kernel, planned},
    fault::Point,
    registry::{Context, Message},
    service::Service,
    timeline::unix_ms,
};

/// A flip that a peer has asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) peer: ProcessId,
    pub(crate) drain: Duration,
    pub(crate) keep: bool,
}

/// A flip that begins when the table which is being published is.
#[derive(Debug)]
pub(crate) struct Waiting {
    target: Target,
    if_epoch: Option<u64>,
    asked: Asked,
}

impl Service {
    /// Begins a flip that a peer has asked for; in a moment, if the agent itself is publishing a
    /// table without a process that has died, or with one that has joined.
    pub(crate) fn flip_for(
        &mut self,
        target: Target,
        if_epoch: Option<u64>,
        asked: Asked,
        context: &Context,
    ) -> Result<(), Refusal> {
        if self.plan.is_refreshing() && self.waiting.is_none() {
            self.waiting = Some(Waiting {
                target,
                if_epoch,
                asked,
            });
            return Ok(());
        }
        self.flip(&target, if_epoch, Some(asked), context)
    }

    /// Begins a flip: stops 3 to 5 of the way that ARCHITECTURE.md describes.
    pub(crate) fn flip(
        &mut self,
        target: &Target,
        if_epoch: Option<u64>,
        asked: Option<Asked>,
        context: &Context,
    ) -> Result<(), Refusal> {
        let change = self
            .plan
            .begin_flip(target, if_epoch)
            .map_err(|error| planned(self.name.as_str(), &error))?;
        self.faults.reach(Point::FlipBegun);
        if let Some(Flip {
            from: Some(from),
            epoch,
            ..
        }) = change.flip
        {
            let keep = asked.is_some_and(|asked| asked.keep);
            let state = if keep {
                MemberState::Kept
            } else {
                MemberState::Leaving
            };
            self.note_departure(from, state, epoch);
        }
        self.faults.reach(Point::DepartureNoted);
        self.begin(change, context)?;
        self.asked = asked;
        Ok(())
    }

    /// Hands a table to a thread that may block for the grace period.
    ///
    /// The program is attached before: a SYN that is on its way past it still has chosen its
    /// listener when the grace period is over.
    pub(crate) fn begin(&mut self, change: Change, context: &Context) -> Result<(), Refusal> {
        if let Err(error) = self.attach_again() {
            self.plan.abort();
            return Err(kernel(&error));
        }
        let Some(mut publisher) = self.publisher.take() else {
            // The plan allows one change at a time, and each gives the publisher back.
            self.plan.abort();
            return Ok(());
        };
        let plan = &self.plan;
        let cookie = |slot| plan.cookie(slot).unwrap_or_default();
        let members: Vec<_> = change
            .table
            .all_slots()
            .map(|slot| (slot, cookie(slot)))
            .collect();
        let (service, messages) = (self.name.clone(), context.messages.clone());
        let faults = self.faults.clone();
        tokio::task::spawn_blocking(move || {
            let words = change.table.words();
            let result = publisher.publish_stepwise(&words, &members, |step| {
                faults.reach(match step {
                    Step::Filled => Point::TableFilled,
                    Step::Verified => Point::BeforePublish,
                });
            });
            faults.reach(Point::AfterPublish);
            let message = Message::Published {
                service,
                publisher,
                change,
                result,
            };
            // Without a receiver the agent is ending, and the table stands.
            drop(messages.blocking_send(message));
        });
        Ok(())
    }

    /// The kernel has taken a table, or refused it.
    pub(crate) fn published(
        &mut self,
        publisher: Publisher,
        change: &Change,
        result: Result<Published, BpfError>,
        context: &mut Context,
    ) {
        self.publisher = Some(publisher);
        let asked = self.asked.take();
        match result {
            Ok(published) => {
                self.plan.commit();
                self.faults.reach(Point::CommitRecorded);
                let listeners = change.table.all_slots().count();
                match &change.flip {
                    Some(flip) => self.flipped(flip, listeners, published, asked, context),
                    None => self.refreshed(listeners),
                }
            }
            Err(error) => {
                self.plan.abort();
                // Its server has shut it down: without it the next attempt can succeed.
                if let BpfError::ListenerGone { slot } = error {
                    self.plan.lose(slot);
                }
                tracing::warn!(service = %self.name, "not published: {}", chain(&error));
                if let Some(asked) = asked {
                    context
                        .peers
                        .send(asked.peer, Reply::Refused(kernel(&error)));
                }
            }
        }
        if let Some(waiting) = self.waiting.take() {
            let Waiting {
                target,
                if_epoch,
                asked,
            } = waiting;
            if let Err(refusal) = self.flip(&target, if_epoch, Some(asked), context) {
                context.peers.send(asked.peer, Reply::Refused(refusal));
            }
        }
    }

    fn refreshed(&mut self, listeners: usize) {
        if let Some(working) = self.plan.working() {
            let name = self.generation_name(working);
            self.note(&name, format!("works with {listeners} listeners now"));
        }
    }

    fn flipped(
        &mut self,
        flip: &Flip,
        listeners: usize,
        published: Published,
        asked: Option<Asked>,
        context: &mut Context,
    ) {
        let committed = Committed {
            service: self.name.clone(),
            from: flip.from.map(|id| self.generation_name(id)),
            to: self.generation_name(flip.to),
            epoch: flip.epoch,
            listeners,
            commit_ms: published.took.as_secs_f64() * 1e3,
            committed_at_ms: unix_ms(),
        };
        self.supersede(flip.to, context);
        self.note_return(flip.to);
        self.prepare_all(flip.to);
        self.note(&committed.to, format!("working since epoch {}", flip.epoch));
        self.tell(flip.to, Event::Working, context);
        if let Some(asked) = asked {
            context
                .peers
                .send(asked.peer, Reply::Committed(committed.clone()));
        }
        let waiter = asked
            .filter(|asked| !asked.drain.is_zero())
            .map(|asked| Waiter {
                peer: asked.peer,
                deadline: Instant::now() + asked.drain,
            });
        let Some(from) = flip.from else {
            return self.nothing_to_drain(committed, waiter, context);
        };
        self.prepare_all(from);
        self.tell(from, Event::Draining, context);
        let keep = asked.is_some_and(|asked| asked.keep);
        let members = self.plan.generation(from).map(|old| old.members.clone());
        // Those too that this agent has no duplicate of yet: what it cannot see is not drained.
        let endpoints = self.plan.endpoints();
        let old = members
            .unwrap_or_default()
            .into_iter()
            .filter_map(|member| {
                let address = endpoints.get(member.endpoint as usize)?;
                Some((member.slot, *address))
            });
        let mut drain = Drain::new(from, committed, keep, waiter, old);
        drain.attached = true;
        self.sample(&mut drain);
        let pending = drain.at_commit();
        let name = self.generation_name(from);
        let (queued, half_open) = (pending.queued, pending.half_open);
        self.note(
            &name,
            format!("draining: {queued} queued, {half_open} half-open"),
        );
        self.drains.push(drain);
        self.faults.reach(Point::DrainBegun);
    }

    /// The first generation replaces nobody.
    fn nothing_to_drain(
        &self,
        committed: Committed,
        waiter: Option<Waiter>,
        context: &mut Context,
    ) {
        if let (Some(waiter), Some(to)) = (waiter, self.plan.working()) {
            let drain = Drain::new(to, committed, false, None, []);
            let certificate = drain.certificate(DrainEnd::Drained);
            context.peers.send(waiter.peer, Reply::Drained(certificate));
        }
    }

    /// A generation works again: whoever waits for its drain waits for something that is over.
    pub(crate) fn supersede(&mut self, id: GenerationId, context: &mut Context) {
        for drain in self.drains.extract_if(.., |drain| drain.generation == id) {
            if let Some(waiter) = drain.waiter {
                let certificate = drain.certificate(DrainEnd::Superseded);
                context.peers.send(waiter.peer, Reply::Drained(certificate));
            }
        }
    }
}
