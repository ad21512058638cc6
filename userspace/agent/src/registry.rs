//! The loop that decides: peers, services, and what is due when.
//!
//! Nothing in here blocks: what may is done by the services' threads (`effects`) and by the
//! runtime's blocking ones, and comes back as a message.

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use synflip_bpf::{Looker, Variant};
use synflip_plan::{Asker, Departure, Host, Input, Link, ProcessId, Quotas, Rules};
use synflip_wire::{Name, Refusal, Register, Reply, Request, Status};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    AgentError, Config,
    effects::{Setting, Task},
    fault::{Faults, Point},
    foreign::Foreign,
    inspect::Inspected,
    limits,
    peers::{Outbox, Outgoing, Peer, Peers},
    relay::Relay,
    requests::Refused,
    service::Service,
    watchdog::Watchdog,
};

/// What the loop is told.
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
        by: Asker,
        request: Request,
        fds: Foreign<Vec<OwnedFd>>,
        /// Dropped once the request has been taken up: only then the peer's next one is read.
        turn: oneshot::Sender<()>,
    },
    /// The descriptors of a registration have been looked at.
    Inspected {
        by: Asker,
        register: Register,
        result: Result<Inspected, Refusal>,
        turn: oneshot::Sender<()>,
    },
    /// Its connection has ended, or the process that it stands for.
    Gone { peer: ProcessId },
    /// It does not read what it is sent.
    Deaf { peer: ProcessId },
    /// A service's thread has done something.
    Report { service: Name, report: Report },
    /// Somebody scrapes the metrics.
    Scrape { answer: oneshot::Sender<Status> },
    /// The agent is to end.
    Stop,
}

/// What a service's thread reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// A fact for the machine.
    Input(Input),
    /// The kernel follows the table that was to be published; this long it took.
    Published { took: Duration },
    /// The service's pins are gone, and the thread with them.
    Ended,
}

/// All state of the agent.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) host: Host,
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) peers: Peers,
    pub(crate) setting: Setting,
    pub(crate) rules: Rules,
    pub(crate) started: Instant,
    pub(crate) started_at_ms: u64,
    /// Registrations for services that are ending.
    postponed: Vec<Message>,
    watchdog: Watchdog,
}

impl Registry {
    pub(crate) fn new(
        config: Config,
        variant: Variant,
        migrates: bool,
        messages: mpsc::Sender<Message>,
        relay: Relay,
        looker: Option<Arc<Looker>>,
    ) -> Self {
        let rules = Rules {
            hold: u64::try_from(config.hold.as_millis()).unwrap_or(u64::MAX),
            migrates,
            tombstones: config.tombstones,
            generations: limits::GENERATIONS,
            ..Rules::default()
        };
        let setting = Setting {
            bpffs: config.bpffs.clone(),
            object: config.object.clone(),
            variant,
            looker,
            faults: Faults::new(config.die_at),
            relay,
            messages,
        };
        Self {
            host: Host::new(Quotas {
                services: limits::SERVICES,
                services_of_uid: limits::SERVICES_OF_UID,
            }),
            config,
            services: BTreeMap::new(),
            peers: Peers::default(),
            setting,
            rules,
            started: Instant::now(),
            started_at_ms: crate::timeline::unix_ms(),
            postponed: Vec::new(),
            watchdog: Watchdog::new(),
        }
    }

    /// Handles messages until it is told to stop.
    ///
    /// # Errors
    /// When a service's thread has ended though it should not.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
    ) -> Result<(), AgentError> {
        loop {
            // Nothing is due while nothing drains: an idle agent sleeps.
            let message = match self.next_due() {
                Some(due) => time::timeout_at(due.into(), inbox.recv()).await,
                None => Ok(inbox.recv().await),
            };
            match message {
                Ok(Some(Message::Stop) | None) => break,
                Ok(Some(message)) => self.handle(message)?,
                Err(_elapsed) => {}
            }
            self.keep_time()?;
            self.watchdog.alive();
        }
        let services = self.services.len();
        // The threads finish what they were given: a table that was decided on is still published.
        drop(inbox);
        let workers = self.services.into_values().map(|service| service.worker);
        workers.for_each(crate::effects::Worker::finish);
        tracing::info!(services, "stopping; the kernel goes on steering");
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<(), AgentError> {
        match message {
            Message::Connected {
                peer,
                uid,
                pid,
                outbox,
            } => {
                let outbox = Some(Outbox {
                    peer,
                    messages: outbox,
                });
                let peer_state = Peer {
                    uid,
                    pid,
                    outbox,
                    member_of: None,
                };
                self.peers.0.insert(peer, peer_state);
            }
            Message::Request {
                by,
                request,
                fds,
                turn,
            } => {
                if let Err(refusal) = self.request(by, request, fds, turn)? {
                    tracing::debug!(code = ?refusal.code, "refused: {refusal}");
                    self.peers.answer(by, Reply::Refused(refusal));
                }
            }
            Message::Inspected {
                by,
                register,
                result,
                turn,
            } => {
                if self
                    .services
                    .get(&register.service)
                    .is_some_and(|s| s.machine.is_over())
                {
                    self.postponed.push(Message::Inspected {
                        by,
                        register,
                        result,
                        turn,
                    });
                    return Ok(());
                }
                self.setting.faults.reach(Point::ListenersTaken);
                let refusal = match result {
                    Ok(inspected) => match self.register(by, register.clone(), inspected)? {
                        Ok(()) => return Ok(()),
                        Err(Refused { refusal, listeners }) => {
                            // Once it is told so, none of them takes connections any more.
                            let messages = self.setting.messages.clone();
                            let result = Err(refusal);
                            tokio::spawn(async move {
                                listeners.close().await;
                                let refused = Message::Inspected {
                                    by,
                                    register,
                                    result,
                                    turn,
                                };
                                drop(messages.send(refused).await);
                            });
                            return Ok(());
                        }
                    },
                    Err(refusal) => refusal,
                };
                tracing::debug!(code = ?refusal.code, "refused: {refusal}");
                self.peers.answer(by, Reply::Refused(refusal));
                drop(turn);
            }
            Message::Gone { peer } => {
                self.gone(peer)?;
                self.peers.0.remove(&peer);
            }
            Message::Deaf { peer } => self.peers.disconnect(peer),
            Message::Report { service, report } => self.reported(&service, report)?,
            Message::Scrape { answer } => self.scraped(answer),
            Message::Stop => {}
        }
        Ok(())
    }

    fn reported(&mut self, name: &Name, report: Report) -> Result<(), AgentError> {
        let Some(service) = self.services.get_mut(name) else {
            return Ok(());
        };
        let done = match report {
            Report::Input(input) => service.on(input, &self.peers),
            Report::Published { took } => service.published(took, &self.peers),
            Report::Ended => {
                if let Some(service) = self.services.remove(name) {
                    service.worker.finish();
                }
                self.host.remove(name);
                for message in std::mem::take(&mut self.postponed) {
                    self.handle(message)?;
                }
                return Ok(());
            }
        };
        self.settled(name, done)
    }

    /// Tells a service's machine a fact.
    pub(crate) fn tell_machine(&mut self, name: &Name, input: Input) -> Result<(), AgentError> {
        let done = match self.services.get_mut(name) {
            Some(service) => service.on(input, &self.peers),
            None => true,
        };
        self.settled(name, done)
    }

    /// Gives up groups that a service has no listener in any more.
    fn settled(&mut self, name: &Name, done: bool) -> Result<(), AgentError> {
        let Some(service) = self.services.get(name) else {
            return Ok(());
        };
        if !done && !service.machine.is_over() {
            let service = name.to_string();
            return Err(AgentError::ThreadEnded { service });
        }
        let places = service.machine.places();
        self.host.release(name, |endpoint| {
            places.values().any(|place| place.address == endpoint)
        });
        Ok(())
    }

    /// A connection has ended, or a process that is followed.
    fn gone(&mut self, process: ProcessId) -> Result<(), AgentError> {
        let how = Departure::Died;
        let mut names = Vec::new();
        for (name, service) in &self.services {
            match service.machine.processes().get(&process).map(|p| p.link) {
                Some(Link::Connected) => names.push(name.clone()),
                // Its children may go on with what they have inherited: the thread has to look first.
                Some(Link::Adopted | Link::Absent) => {
                    service.worker.give(Task::Ended(process));
                }
                None => {}
            }
        }
        names
            .iter()
            .try_for_each(|name| self.tell_machine(name, Input::Left { process, how }))
    }

    fn keep_time(&mut self) -> Result<(), AgentError> {
        let now = Instant::now();
        let is_due = |service: &&mut Service| service.wake.is_some_and(|wake| wake <= now);
        let mut due = Vec::new();
        for service in self.services.values_mut().filter(is_due) {
            service.wake = None;
            due.push(service.name.clone());
        }
        due.iter()
            .try_for_each(|name| self.tell_machine(name, Input::Time))
    }

    fn next_due(&self) -> Option<Instant> {
        let wakes = self.services.values().filter_map(|service| service.wake);
        wakes.chain(self.watchdog.due()).min()
    }
}
