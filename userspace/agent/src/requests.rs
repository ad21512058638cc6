//! What peers ask for, and whether they may.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use synflip_bpf::{Steering, service_dir};
use synflip_plan::ProcessId;
use synflip_wire::{ErrorCode, Name, Refusal, Register, Reply, Request};

use crate::{
    error::kernel, fault::Point, flip::Asked, limits, peers::Asker, queues::ListenTables,
    registration::inspect, registry::Registry, service::Service, status,
};

impl Registry {
    pub(crate) fn request(
        &mut self,
        asker: Asker,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, Refusal> {
        let peer = asker.peer;
        match request {
            Request::Register(register) => self.register(peer, register, fds).map(Some),
            Request::Adopt(register) => self.adopt(peer, register, fds).map(Some),
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
            Request::Emptied { cookies } => {
                let (service, _) = self.membership(peer)?;
                if let Some(service) = self.services.get_mut(&service) {
                    service.emptied(peer, &cookies);
                }
                Ok(None)
            }
            Request::Status { service } => {
                let status = status::of(self, service.as_ref())?;
                Ok(Some(Reply::Status(status)))
            }
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
                    let asked = Asked { asker, drain, keep };
                    service.flip_for(
                        target,
                        if_epoch.map(|epoch| epoch.0),
                        asked,
                        &self.context,
                    )?;
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
                ErrorCode::UnknownRequest,
                "this agent does not know that request",
            )),
        }
    }

    pub(crate) fn register(
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
        self.context.faults.reach(Point::ListenersTaken);
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
        let faults = self.context.faults.clone();
        faults.reach(Point::ServiceFounded);
        let service = Service::new(name.clone(), uid, steering, publisher, faults);
        self.services.insert(name.clone(), service);
        tracing::info!(service = %name, owner_uid = uid, "new service");
        Ok(())
    }

    /// A peer no longer accepts for the generation it had joined.
    pub(crate) fn leave(&mut self, peer: ProcessId, on_purpose: bool) {
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
}

pub(crate) fn open_tables(service: &Name, netns: &OwnedFd) -> Result<ListenTables, Refusal> {
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
