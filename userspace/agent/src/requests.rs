//! What peers ask for, and whether they may.

use std::os::fd::OwnedFd;

use synflip_plan::{Asker, Departure, FlipRequest, Group, Input, Join, Target};
use synflip_types::Cookie;
use synflip_wire::{ErrorCode, Name, Refusal, Register, Reply, Request};
use tokio::sync::oneshot;

use crate::{
    AgentError,
    custody::Custody,
    effects::{Executor, Task, Worker},
    error::not_admitted,
    follow,
    foreign::Foreign,
    inspect::{self, Inspected},
    peers::{self, Peer},
    registry::{Message, Registry},
    service::Service,
};

/// A registration that is not admitted, and what has come with it.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) listeners: Foreign<Vec<Custody>>,
}

impl Registry {
    /// Takes up a request: `Ok(Ok)` if what is to be answered is, or will be.
    pub(crate) fn request(
        &mut self,
        by: Asker,
        request: Request,
        fds: Foreign<Vec<OwnedFd>>,
        turn: oneshot::Sender<()>,
    ) -> Result<Result<(), Refusal>, AgentError> {
        match request {
            Request::Register(register) => {
                let pid = self.peers.get(by.process).map_or(0, |peer| peer.pid);
                self.inspect(by, register, turn, move |register| {
                    inspect::registration(&register.listeners, fds.into_inner(), pid)
                });
            }
            Request::Adopt(register) => {
                self.inspect(by, register, turn, move |register| {
                    inspect::adoption(&register.listeners, fds.into_inner())
                });
            }
            // A service that is over has nobody who could answer: its thread is ending, or has ended.
            Request::Ready => match self
                .member_of(by)
                .and_then(|service| self.named(Some(&service)))
            {
                Ok(service) => self.tell_machine(&service, Input::Ready { by })?,
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Closed => match self.member_of(by) {
                Ok(service) => {
                    let (process, how) = (by.process, Departure::Closed);
                    self.tell_machine(&service, Input::Left { process, how })?;
                    self.peers.answer(by, Reply::Done);
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Emptied { cookies } => match self.member_of(by) {
                Ok(service) => {
                    let listeners = cookies;
                    let process = by.process;
                    self.tell_machine(&service, Input::Emptied { process, listeners })?;
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Serves { clients } => match self.member_of(by) {
                Ok(service) => {
                    let process = by.process;
                    self.tell_machine(&service, Input::Serves { process, clients })?;
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Status { service } => return Ok(self.status_for(by, service.as_ref(), turn)),
            Request::Flip {
                service,
                to,
                if_epoch,
                drain_ms,
                keep,
                drop_endpoints,
            } => match self.owned(by, service) {
                Ok(service) => {
                    let request = FlipRequest {
                        by,
                        target: target(to),
                        if_epoch,
                        drain_ms,
                        keep,
                        drop: drop_endpoints,
                    };
                    self.tell_machine(&service, Input::Flip(request))?;
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Retire {
                service,
                generation,
                force,
            } => match self.owned(by, service) {
                Ok(service) => {
                    let input = Input::Retire {
                        by,
                        generation,
                        force,
                    };
                    self.tell_machine(&service, input)?;
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            Request::Release { service } => match self.owned(by, service) {
                Ok(service) => self.tell_machine(&service, Input::Release { by })?,
                Err(refusal) => return Ok(Err(refusal)),
            },
            _ => {
                let text = "this agent does not know that request";
                return Ok(Err(Refusal::new(ErrorCode::UnknownRequest, text)));
            }
        }
        Ok(Ok(()))
    }

    /// Has descriptors looked at where blocking harms nobody.
    fn inspect(
        &self,
        by: Asker,
        register: Register,
        turn: oneshot::Sender<()>,
        inspect: impl FnOnce(&Register) -> Result<Inspected, Refusal> + Send + 'static,
    ) {
        let messages = self.setting.messages.clone();
        tokio::task::spawn_blocking(move || {
            let result = inspect(&register);
            let inspected = Message::Inspected {
                by,
                register,
                result,
                turn,
            };
            // Without a receiver the agent is ending.
            drop(messages.blocking_send(inspected));
        });
    }

    /// Has a process join a service with listeners that have passed inspection.
    pub(crate) fn register(
        &mut self,
        by: Asker,
        register: Register,
        inspected: Inspected,
    ) -> Result<Result<(), Refused>, AgentError> {
        let Register {
            service: name,
            generation,
            ..
        } = register;
        let Inspected {
            listeners,
            netns,
            process: identity,
            adopted,
        } = inspected;
        let uid = self.peers.uid(by.process);
        let member_of = match &adopted {
            Some(_) => None,
            None => self
                .peers
                .get(by.process)
                .and_then(|peer| peer.member_of.clone()),
        };
        if let Some((service, joined)) = &member_of
            && (*service != name
                || generation
                    .as_ref()
                    .is_some_and(|asked| Some(asked) != joined.as_ref()))
        {
            let joined = joined.as_ref().map_or("a generation", Name::as_str);
            let text = format!("this connection serves {joined} of {service}; open another one");
            let refusal = Refusal::new(ErrorCode::BadMessage, text);
            return Ok(Err(Refused { refusal, listeners }));
        }
        let generation = member_of.and_then(|(_, joined)| joined).or(generation);
        let groups: Vec<(Group, Cookie)> = listeners
            .iter()
            .map(|listener| (listener.group.clone(), listener.cookie))
            .collect();
        if let Err(error) = self.host.admit(&name, uid, &groups) {
            let refusal = not_admitted(&error);
            return Ok(Err(Refused { refusal, listeners }));
        }
        if !self.services.contains_key(&name)
            && let Err(refusal) = self.found(&name, uid)
        {
            return Ok(Err(Refused { refusal, listeners }));
        }
        let keys = groups
            .iter()
            .map(|(group, cookie)| (group.endpoint, *cookie))
            .collect();
        self.host
            .take(&name, uid, groups.into_iter().map(|(group, _)| group));

        let talks = adopted.is_none();
        let process = if talks { by.process } else { peers::new_id() };
        if let Some(pidfd) = adopted {
            let peer = Peer {
                uid,
                pid: identity.pid,
                outbox: None,
                member_of: None,
            };
            self.peers.0.insert(process, peer);
            follow::until_it_ends(pidfd, process, self.setting.messages.clone());
        }
        if let Some(peer) = self.peers.0.get_mut(&process) {
            peer.member_of = Some((name.clone(), generation.clone()));
        }
        let input = Input::Join(Join {
            by: Asker {
                process,
                request: by.request,
            },
            answer: by,
            name: generation,
            listeners: keys,
            talks,
        });
        if let Some(service) = self.services.get(&name) {
            service.worker.give(Task::Incoming {
                process,
                identity,
                listeners: listeners.into_inner(),
                netns,
            });
        }
        self.tell_machine(&name, input)?;
        if let Some(service) = self.services.get(&name) {
            service.worker.give(Task::Placed);
            let known = service.machine.processes().keys().copied().collect();
            service.worker.give(Task::Known(known));
        }
        self.name_generation(&name, process);
        Ok(Ok(()))
    }

    /// Remembers which generation a peer has joined, if the machine has named it.
    fn name_generation(&mut self, name: &Name, process: synflip_plan::ProcessId) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let joined = service.machine.processes().get(&process);
        let joined = joined.map(|process| service.generation_name(process.generation));
        if let Some(peer) = self.peers.0.get_mut(&process) {
            peer.member_of = joined.map(|joined| (name.clone(), Some(joined)));
        }
    }

    /// Makes a service; its owner is whoever registers first.
    fn found(&mut self, name: &Name, uid: u32) -> Result<(), Refusal> {
        let executor = Executor::new(name.clone(), uid, self.setting.clone());
        let worker = Worker::start(executor).map_err(|error| {
            let text = format!("{name}: no thread for it: {error}");
            Refusal::new(ErrorCode::LimitReached, text)
        })?;
        let machine = synflip_plan::Service::new(self.rules);
        let service = Service::new(name.clone(), machine, worker, self.started);
        self.services.insert(name.clone(), service);
        Ok(())
    }

    fn member_of(&self, by: Asker) -> Result<Name, Refusal> {
        let peer = self.peers.get(by.process);
        let member_of = peer.and_then(|peer| peer.member_of.clone());
        member_of.map(|(service, _)| service).ok_or_else(|| {
            Refusal::new(
                ErrorCode::BadMessage,
                "this connection has not registered any listener",
            )
        })
    }

    /// The service that a request means, if the peer may change it.
    fn owned(&self, by: Asker, service: Option<Name>) -> Result<Name, Refusal> {
        let name = self.named(service.as_ref())?;
        let uid = self.peers.uid(by.process);
        match self.host.may_change(&name, uid) {
            Ok(()) => Ok(name),
            Err(error) => Err(not_admitted(&error)),
        }
    }

    /// The service of that name, or the only one.
    pub(crate) fn named(&self, service: Option<&Name>) -> Result<Name, Refusal> {
        let open = || {
            let open = self.services.iter();
            let open = open.filter(|(_, service)| !service.machine.is_over());
            open.map(|(name, _)| name)
        };
        let known = || {
            let names: Vec<_> = open().map(Name::as_str).collect();
            if names.is_empty() {
                "none is registered".into()
            } else {
                names.join(", ")
            }
        };
        match (service, open().next()) {
            (Some(name), _) if open().any(|other| other == name) => Ok(name.clone()),
            (Some(name), _) => {
                let text = format!(
                    "there is no service {name:?}: {}",
                    known(),
                    name = name.as_str()
                );
                Err(Refusal::new(ErrorCode::NoSuchService, text))
            }
            (None, Some(only)) if open().count() == 1 => Ok(only.clone()),
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
}

fn target(to: synflip_wire::Target) -> Target {
    match to {
        synflip_wire::Target::Generation(name) => Target::Named(name),
        synflip_wire::Target::Latest => Target::Latest,
        synflip_wire::Target::Previous => Target::Previous,
    }
}
