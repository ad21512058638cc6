//! A service's thread, and what it is given to do.

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    sync::mpsc::{Sender, channel},
    thread::{Builder, JoinHandle},
};

use synflip_bpf::BpfError;
use synflip_plan::{Effect, EffectKind, ProcessId};
use synflip_types::{EndpointId, RequestId, Slot};
use synflip_wire::{Reply, TimelineEntry};
use tokio::sync::oneshot;

use super::{Executor, Survey};
use crate::{custody::Custody, peers::Outbox, process::Process};

/// What a service's thread is given to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// A process has come with descriptors, which the next effects put in place.
    Incoming {
        process: ProcessId,
        identity: Process,
        listeners: Vec<Custody>,
        netns: OwnedFd,
    },
    /// All that follows from a registration has been given: descriptors that it has not put in place
    /// were refused, and are closed. Kept, they would go on listening when their server has ended.
    Placed,
    /// The processes that the machine knows: nothing is noted of others any more.
    Known(BTreeSet<ProcessId>),
    /// A process that an earlier agent knew lives: its descriptors can be taken.
    Followed {
        process: ProcessId,
        identity: Process,
        pidfd: OwnedFd,
    },
    /// A process that was followed has ended: whether others have its listeners is to be seen.
    Ended(ProcessId),
    /// The service is taken up: nothing more is fetched from processes that an earlier agent knew.
    TakenUp,
    /// What the machine wants.
    Effect(Effect),
    /// Something has happened that the agent which comes after is to know of.
    Append(TimelineEntry),
    /// A message to a peer.
    Send {
        to: Outbox,
        kind: EffectKind,
        /// The request that it answers; none of what is said unasked.
        id: Option<RequestId>,
        reply: Reply,
    },
    /// The machine wants a listener lent to this peer.
    Lend { slot: Slot, to: Outbox },
    /// Somebody wants to know figures.
    Survey {
        slots: Vec<Slot>,
        endpoints: Vec<EndpointId>,
        answer: oneshot::Sender<Result<Survey, BpfError>>,
    },
}

/// A service's thread.
#[derive(Debug)]
pub(crate) struct Worker {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread of a service.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(executor: Executor) -> std::io::Result<Self> {
        let (tasks, inbox) = channel();
        let name = format!("service-{}", executor.service);
        let thread = Builder::new()
            .name(name)
            .spawn(move || executor.run(&inbox))?;
        Ok(Self {
            tasks: Some(tasks),
            thread: Some(thread),
        })
    }

    /// Gives it something to do; false if it has ended.
    pub(crate) fn give(&self, task: Task) -> bool {
        let tasks = self.tasks.as_ref();
        tasks.is_some_and(|tasks| tasks.send(task).is_ok())
    }

    /// Has it do what it was given, and waits until it has.
    pub(crate) fn finish(mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process before this returns.
            drop(thread.join());
        }
    }
}
