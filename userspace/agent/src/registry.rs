//! The single owner of all state: peers, services, and what is due when.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use synflip_bpf::{BpfError, Published, Publisher, Steering, Variant, service_dir};
use synflip_plan::{Change, ProcessId};
use synflip_wire::{ErrorCode, Name, Refusal, Register, Reply, Request};
use tokio::{sync::mpsc, time};

use crate::{
    Config, error::kernel, flip::Asked, limits, queues::ListenTables, registration::inspect,
    service::Service, status,
};

/// What the owner of the state is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A peer has connected.
    Connected {
        peer: ProcessId,
        uid: u32,
        pid: u32,
        outbox: mpsc::Sender<Reply>,
    },
    /// It asks for something.
    Request {
        peer: ProcessId,
        request: Request,
        fds: Vec<OwnedFd>,
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
    /// The agent is to end.
    Stop,
}

/// What services need besides themselves.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) peers: Peers,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) variant: Variant,
    pub(crate) tombstones: bool,
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// None once it has failed to read what it was sent.
    outbox: Option<mpsc::Sender<Reply>>,
    /// The service and generation it has registered for.
    pub(crate) member_of: Option<(Name, Name)>,
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers(HashMap<ProcessId, Peer>);

impl Peers {
    /// Sends a message; a peer that does not read loses its connection.
    pub(crate) fn send(&mut self, peer: ProcessId, reply: Reply) {
        let Some(peer) = self.0.get_mut(&peer) else {
            return;
        };
        let full = peer
            .outbox
            .as_ref()
            .is_some_and(|outbox| outbox.try_send(reply).is_err());
        if full {
            tracing::warn!(
                pid = peer.pid,
                "does not read what it is sent; disconnected"
            );
            peer.outbox = None;
        }
    }

    /// Sends a message that may be left out, if the peer has read what it was sent before.
    pub(crate) fn hint(&self, peer: ProcessId, reply: Reply) {
        let outbox = self.0.get(&peer).and_then(|peer| peer.outbox.as_ref());
        if let Some(permit) = outbox
            .filter(|outbox| outbox.capacity() > limits::OUTBOX / 2)
            .and_then(|outbox| outbox.try_reserve().ok())
        {
            permit.send(reply);
        }
    }

    pub(crate) fn get(&self, peer: ProcessId) -> Option<&Peer> {
        self.0.get(&peer)
    }
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
    pub(crate) fn new(config: Config, variant: Variant, messages: mpsc::Sender<Message>) -> Self {
        let tombstones = config.tombstones;
        Self {
            config,
            services: BTreeMap::new(),
            context: Context {
                peers: Peers::default(),
                messages,
                variant,
                tombstones,
            },
            started_at_ms: crate::timeline::unix_ms(),
        }
    }

    /// Handles messages until it is told to stop.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
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
            Message::Request { peer, request, fds } => match self.request(peer, request, fds) {
                Ok(Some(reply)) => self.context.peers.send(peer, reply),
                Ok(None) => {}
                Err(refusal) => {
                    tracing::debug!(code = ?refusal.code, "refused: {refusal}");
                    self.context.peers.send(peer, Reply::Refused(refusal));
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
            Message::Stop => {}
        }
    }

    fn request(
        &mut self,
        peer: ProcessId,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, Refusal> {
        match request {
            Request::Register(register) => self.register(peer, register, fds).map(Some),
            Request::Ready => {
                let (service, generation) = self.membership(peer)?;
                if let Some(service) = self.services.get_mut(&service) {
                    service.ready(peer, &generation);
                }
                Ok(Some(Reply::Done))
            }
            Request::Closed => {
                self.membership(peer)?;
                self.leave(peer, true);
                Ok(Some(Reply::Done))
            }
            Request::Status { service } => status::of(self, service.as_ref()).map(Some),
            Request::Flip {
                service,
                to,
                if_epoch,
                drain_ms,
                keep,
            } => {
                let name = self.owned(peer, service)?;
                let drain = Duration::from_millis(drain_ms);
                let target = match to {
                    synflip_wire::Target::Generation(name) => {
                        synflip_plan::Target::Named(name.into())
                    }
                    synflip_wire::Target::Latest => synflip_plan::Target::Latest,
                    synflip_wire::Target::Previous => synflip_plan::Target::Previous,
                };
                if let Some(service) = self.services.get_mut(&name) {
                    let asked = Asked { peer, drain, keep };
                    service.flip(&target, if_epoch, Some(asked), &self.context)?;
                }
                Ok(None)
            }
            Request::Retire {
                service,
                generation,
                force,
            } => {
                let name = self.owned(peer, service)?;
                if let Some(service) = self.services.get_mut(&name) {
                    service.retire(&generation, force, &mut self.context)?;
                }
                Ok(Some(Reply::Done))
            }
            _ => Err(Refusal::new(
                ErrorCode::BadMessage,
                "this agent does not know that request",
            )),
        }
    }

    fn register(
        &mut self,
        peer: ProcessId,
        register: Register,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, Refusal> {
        let Register {
            service: name,
            generation,
            listeners,
        } = register;
        let bad = |text: String| Refusal::new(ErrorCode::BadMessage, text);
        let uid = self
            .context
            .peers
            .get(peer)
            .map_or(u32::MAX, |peer| peer.uid);
        let member_of = self
            .context
            .peers
            .get(peer)
            .and_then(|peer| peer.member_of.clone());
        if let Some((service, joined)) = &member_of
            && (*service != name || generation.as_ref().is_some_and(|asked| asked != joined))
        {
            let text = format!("this connection serves {joined} of {service}; open another one");
            return Err(bad(text));
        }
        let generation = member_of.map(|(_, joined)| joined).or(generation);
        let (listeners, netns) = inspect(&listeners, fds)?;
        match self.services.get(&name) {
            Some(service) if uid != service.owner_uid && uid != 0 => {
                return Err(not_allowed(&name, uid, service.owner_uid));
            }
            Some(_) => {}
            None => self.found(&name, uid)?,
        }
        let Some(service) = self.services.get_mut(&name) else {
            return Err(bad(format!("{name} is gone")));
        };
        if service.tables.is_none() {
            service.tables = Some(open_tables(&name, &netns)?);
        }
        let joined = service.register(peer, generation.as_ref(), listeners, &mut self.context)?;
        if let Some(peer) = self.context.peers.0.get_mut(&peer) {
            peer.member_of = Some((name.clone(), joined.clone()));
        }
        Ok(Reply::Registered {
            service: name,
            generation: joined,
        })
    }

    /// Makes a service; its owner is whoever registers first.
    fn found(&mut self, name: &Name, uid: u32) -> Result<(), Refusal> {
        if self.services.len() >= limits::SERVICES {
            let text = format!(
                "this agent has {} services, and takes no more",
                limits::SERVICES
            );
            return Err(Refusal::new(ErrorCode::LimitReached, text));
        }
        let dir = service_dir(&self.config.bpffs, name.as_str());
        let (steering, publisher) =
            Steering::open(dir, self.config.object.clone(), self.context.variant)
                .map_err(|error| kernel(&error))?;
        let service = Service::new(name.clone(), uid, steering, publisher);
        self.services.insert(name.clone(), service);
        tracing::info!(service = %name, owner_uid = uid, "new service");
        Ok(())
    }

    /// A peer no longer accepts for the generation it had joined.
    fn leave(&mut self, peer: ProcessId, on_purpose: bool) {
        let member_of = self
            .context
            .peers
            .get(peer)
            .and_then(|peer| peer.member_of.clone());
        if let Some((service, generation)) = member_of
            && let Some(service) = self.services.get_mut(&service)
        {
            service.leave(peer, &generation, on_purpose);
        }
    }

    fn membership(&self, peer: ProcessId) -> Result<(Name, Name), Refusal> {
        let member_of = self
            .context
            .peers
            .get(peer)
            .and_then(|peer| peer.member_of.clone());
        member_of.ok_or_else(|| {
            Refusal::new(
                ErrorCode::BadMessage,
                "this connection has not registered any listener",
            )
        })
    }

    /// The service that a request means, if the peer may change it.
    fn owned(&self, peer: ProcessId, service: Option<Name>) -> Result<Name, Refusal> {
        let name = self.named(service.as_ref())?;
        let uid = self
            .context
            .peers
            .get(peer)
            .map_or(u32::MAX, |peer| peer.uid);
        let owner = self
            .services
            .get(&name)
            .map_or(0, |service| service.owner_uid);
        if uid == owner || uid == 0 {
            Ok(name)
        } else {
            Err(not_allowed(&name, uid, owner))
        }
    }

    /// The service of that name, or the only one.
    pub(crate) fn named(&self, service: Option<&Name>) -> Result<Name, Refusal> {
        let known = || {
            let names: Vec<_> = self.services.keys().map(Name::as_str).collect();
            if names.is_empty() {
                "none is registered".into()
            } else {
                names.join(", ")
            }
        };
        match (service, self.services.keys().next()) {
            (Some(name), _) if self.services.contains_key(name) => Ok(name.clone()),
            (Some(name), _) => {
                let text = format!(
                    "there is no service {name:?}: {}",
                    known(),
                    name = name.as_str()
                );
                Err(Refusal::new(ErrorCode::NoSuchService, text))
            }
            (None, Some(only)) if self.services.len() == 1 => Ok(only.clone()),
            (None, Some(_)) => {
                let text = format!("there are several services, name one: {}", known());
                Err(Refusal::new(ErrorCode::AmbiguousService, text))
            }
            (None, None) => {
                let text = "no service is registered; start a server first";
                Err(Refusal::new(ErrorCode::NoSuchService, text))
            }
        }
    }

    /// Does what follows from what has happened.
    fn settle(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.settle(now, self.config.hold, &mut self.context);
        }
        for (name, service) in self.services.extract_if(.., |_, service| service.is_over()) {
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

impl Service {
    /// Does what follows from what has happened to this service.
    fn settle(&mut self, now: Instant, hold: Duration, context: &mut Context) {
        self.watch_absent(now);
        self.watch_drains(now, context);
        if !self.plan.is_committing() {
            self.keep_working(context);
        }
        self.close_unneeded(now, context);

        let served = self
            .plan
            .generations()
            .iter()
            .any(synflip_plan::Generation::is_served);
        if served || self.custody.is_empty() || self.plan.is_committing() {
            self.unserved_since = None;
            return;
        }
        let since = *self.unserved_since.get_or_insert(now);
        let over = self.left_on_purpose || now.duration_since(since) >= hold;
        if over {
            let lost = self.close_all();
            tracing::warn!(service = %self.name, lost, "nobody accepts for it; listeners closed");
        }
    }

    /// Sees to it that the published table is that of a generation which accepts.
    fn keep_working(&mut self, context: &Context) {
        if self.works_unserved()
            && let Some(successor) = self.plan.successor()
        {
            let target = synflip_plan::Target::Named(successor.name.clone());
            if let Err(refusal) = self.flip(&target, None, None, context) {
                tracing::warn!(service = %self.name, "no successor: {refusal}");
            }
        } else if let Some(change) = self.plan.begin_refresh() {
            self.begin(change, context);
        }
    }

    fn is_over(&self) -> bool {
        let served = self
            .plan
            .generations()
            .iter()
            .any(synflip_plan::Generation::is_served);
        self.custody.is_empty() && !served && !self.plan.is_committing()
    }

    /// When something has to be looked at again.
    fn next_due(&self, hold: Duration) -> Option<Instant> {
        let drains = self.drains.iter().flat_map(|drain| {
            [Some(drain.next), drain.waiter.map(|waiter| waiter.deadline)]
                .into_iter()
                .flatten()
        });
        let held = self.unserved_since.map(|since| since + hold);
        drains
            .chain(self.close_again)
            .chain(self.absent_again)
            .chain(held)
            .min()
    }
}

fn open_tables(service: &Name, netns: &OwnedFd) -> Result<ListenTables, Refusal> {
    ListenTables::open(netns.as_fd()).map_err(|error| {
        let text = format!(
            "{service}: the listener tables of its network namespace cannot be read (another \
             namespace than the agent's needs CAP_SYS_ADMIN): {error}"
        );
        Refusal::new(ErrorCode::Kernel, text)
    })
}

fn not_allowed(service: &Name, uid: u32, owner: u32) -> Refusal {
    let text = format!("service {service} belongs to uid {owner}; uid {uid} may not change it");
    Refusal::new(ErrorCode::NotAllowed, text)
}
