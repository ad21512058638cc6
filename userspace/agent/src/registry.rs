//! The single owner of all state: peers, services, and what is due when.

use std::{collections::BTreeMap, os::fd::OwnedFd, time::Instant};

use synflip_bpf::{BpfError, Published, Publisher, Variant};
use synflip_plan::{Change, ProcessId};
use synflip_wire::{Name, Reply, Request, Status};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    Config,
    fault::{Faults, Point},
    peers::{Asker, Outgoing, Peer, Peers},
    service::Service,
    status,
};

/// What the owner of the state is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A peer has connected.
    Connected {
        peer: ProcessId,
        uid: u32,
        pid: u32,
        outbox: mpsc::Sender<Outgoing>,
    },
    /// It asks for something.
    Request {
        asker: Asker,
        request: Request,
        fds: Vec<OwnedFd>,
        /// Dropped once the request has been handled: only then the peer's next one is read.
        turn: oneshot::Sender<()>,
    },
    /// Its connection has ended.
    Gone { peer: ProcessId },
    /// A table has been published, or was refused.
    Published {
        service: Name,
        publisher: Publisher,
        change: Change,
        result: Result<Published, BpfError>,
    },
    /// Somebody scrapes the metrics.
    Scrape { answer: oneshot::Sender<Status> },
    /// The agent is to end.
    Stop,
}

/// What services need besides themselves.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) peers: Peers,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) variant: Variant,
    /// Whether what is queued on a listener moves when it is closed, and wakes whom it comes to.
    pub(crate) migrates: bool,
    pub(crate) tombstones: bool,
    pub(crate) faults: Faults,
}

/// All state of the agent.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) context: Context,
    pub(crate) started_at_ms: u64,
}

impl Registry {
    pub(crate) fn new(
        config: Config,
        variant: Variant,
        migrates: bool,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        let tombstones = config.tombstones;
        let faults = Faults::new(config.die_at);
        Self {
            config,
            services: BTreeMap::new(),
            context: Context {
                peers: Peers::default(),
                messages,
                variant,
                migrates,
                tombstones,
                faults,
            },
            started_at_ms: crate::timeline::unix_ms(),
        }
    }

    /// Handles messages until it is told to stop.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        // What was taken up may have been abandoned: nobody need say anything for that to be seen.
        self.settle(Instant::now());
        loop {
            // Nothing is due while nothing drains: an idle agent sleeps.
            let due = self.next_due();
            let message = match due {
                Some(due) => time::timeout_at(due.into(), inbox.recv()).await,
                None => Ok(inbox.recv().await),
            };
            match message {
                Ok(Some(Message::Stop) | None) => break,
                Ok(Some(message)) => self.handle(message),
                Err(_elapsed) => {}
            }
            self.settle(Instant::now());
        }
        let services = self.services.len();
        tracing::info!(services, "stopping; the kernel goes on steering");
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Connected {
                peer,
                uid,
                pid,
                outbox,
            } => {
                let outbox = Some(outbox);
                self.context.peers.0.insert(
                    peer,
                    Peer {
                        uid,
                        pid,
                        outbox,
                        member_of: None,
                    },
                );
            }
            Message::Request {
                asker,
                request,
                fds,
                turn: _turn,
            } => match self.request(asker, request, fds) {
                Ok(Some(reply)) => self.context.peers.answer(asker, reply),
                Ok(None) => {}
                Err(refusal) => {
                    tracing::debug!(code = ?refusal.code, "refused: {refusal}");
                    self.context.peers.answer(asker, Reply::Refused(refusal));
                }
            },
            Message::Gone { peer } => {
                self.leave(peer, false);
                self.context.peers.0.remove(&peer);
            }
            Message::Published {
                service,
                publisher,
                change,
                result,
            } => {
                if let Some(service) = self.services.get_mut(&service) {
                    service.published(publisher, &change, result, &mut self.context);
                }
            }
            Message::Scrape { answer } => match status::of(self, None) {
                // Whoever asked may have gone away.
                Ok(status) => drop(answer.send(status)),
                Err(refusal) => tracing::warn!("metrics: {refusal}"),
            },
            Message::Stop => {}
        }
    }

    /// Does what follows from what has happened.
    fn settle(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.settle(now, self.config.hold, &mut self.context);
        }
        for (name, service) in self.services.extract_if(.., |_, service| service.is_over()) {
            self.context.faults.reach(Point::BeforeUnpin);
            match service.steering.unpin() {
                Ok(()) => tracing::info!(service = %name, "service over"),
                Err(error) => tracing::warn!(service = %name, "{error}"),
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let hold = self.config.hold;
        self.services
            .values()
            .filter_map(|service| service.next_due(hold))
            .min()
    }
}
