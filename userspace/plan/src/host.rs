//! What spans services: whose a name is, whose a reuseport group is, and how much one user may
//! have.

mod group;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use synflip_types::{Cookie, Endpoint, Name};

pub use group::Group;

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Services in all.
    pub services: usize,
    /// Services of one user; root has no bound but the one before.
    pub services_of_uid: usize,
}

/// What a registration that is admitted means for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It founds the service.
    New,
    /// The service is there.
    Known,
}

/// Why a registration is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The service is somebody else's.
    #[error("service {service} belongs to uid {owner}; uid {uid} may not change it")]
    NotOwner {
        /// The service.
        service: Name,
        /// Who asks.
        uid: u32,
        /// Whose it is.
        owner: u32,
    },
    /// There are too many services.
    #[error("this agent has {most} services, and takes no more")]
    TooManyServices {
        /// How many there may be.
        most: usize,
    },
    /// One user has too many.
    #[error("uid {uid} has {most} services, and may have no more")]
    TooManyOfUid {
        /// Who asks.
        uid: u32,
        /// How many it may have.
        most: usize,
    },
    /// The reuseport group is another service's.
    #[error(
        "{address}: service {owner} has listeners there already, and the kernel has one program for \
         both; register these for {owner} too, or use another address"
    )]
    GroupTaken {
        /// The address.
        address: SocketAddr,
        /// That service.
        owner: Name,
    },
    /// It would take connections from an endpoint that the service has.
    #[error(
        "{address}: it overlaps {other}, where service {service} has listeners: the kernel would give \
         it connections from its listen() on, before it is ready; bind the same address as those, \
         or register both in the service's first registration"
    )]
    Overlaps {
        /// Its address.
        address: SocketAddr,
        /// The other one.
        other: SocketAddr,
        /// Whose that is.
        service: Name,
    },
    /// The listener came twice in one registration.
    #[error("{address}: this listener came twice")]
    Twice {
        /// Its address.
        address: SocketAddr,
    },
    /// It cannot be in one reuseport group with its siblings.
    #[error("{address}: {why}")]
    Differs {
        /// Its address.
        address: SocketAddr,
        /// In what, and what to do.
        why: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owned {
    uid: u32,
    groups: BTreeSet<Group>,
}

/// All services' names and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    quotas: Quotas,
    services: BTreeMap<Name, Owned>,
}

impl Host {
    /// A host without services.
    pub fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            services: BTreeMap::new(),
        }
    }

    /// Whose a service is.
    pub fn owner(&self, service: &Name) -> Option<u32> {
        self.services.get(service).map(|owned| owned.uid)
    }

    /// Whether a user may change a service: its owner, and root.
    ///
    /// # Errors
    /// [`HostError::NotOwner`]; never for a service that is not there.
    pub fn may_change(&self, service: &Name, uid: u32) -> Result<(), HostError> {
        match self.owner(service) {
            Some(owner) if uid != owner && uid != 0 => Err(HostError::NotOwner {
                service: service.clone(),
                uid,
                owner,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a user may register these listeners for a service. Nothing has changed yet:
    /// [`Self::take`] is for when they are in place.
    ///
    /// # Errors
    /// Any reason not to.
    pub fn admit(
        &self,
        service: &Name,
        uid: u32,
        listeners: &[(Group, Cookie)],
    ) -> Result<Admission, HostError> {
        self.may_change(service, uid)?;
        let known = self.services.get(service);
        if known.is_none() {
            let most = self.quotas.services;
            if self.services.len() >= most {
                return Err(HostError::TooManyServices { most });
            }
            let most = self.quotas.services_of_uid;
            let its = self
                .services
                .values()
                .filter(|owned| owned.uid == uid)
                .count();
            if uid != 0 && its >= most {
                return Err(HostError::TooManyOfUid { uid, most });
            }
        }
        for (at, (group, cookie)) in listeners.iter().enumerate() {
            let address = group.endpoint.address();
            let before = &listeners[..at];
            if before.iter().any(|(_, other)| other == cookie) {
                return Err(HostError::Twice { address });
            }
            let siblings = || known.into_iter().flat_map(|owned| &owned.groups);
            let is_new = siblings().all(|sibling| sibling.endpoint != group.endpoint);
            let overlapped = siblings().find(|sibling| is_new && group.overlaps(sibling));
            if let Some(other) = overlapped {
                return Err(HostError::Overlaps {
                    address,
                    other: other.endpoint.address(),
                    service: service.clone(),
                });
            }
            for sibling in siblings().chain(before.iter().map(|(group, _)| group)) {
                if let Some(why) = group.difference(sibling) {
                    return Err(HostError::Differs { address, why });
                }
            }
            let mut others = self.services.iter().filter(|(name, _)| *name != service);
            if let Some((owner, _)) = others.find(|(_, owned)| owned.groups.contains(group)) {
                return Err(HostError::GroupTaken {
                    address,
                    owner: owner.clone(),
                });
            }
        }
        Ok(match known {
            Some(_) => Admission::Known,
            None => Admission::New,
        })
    }

    /// Gives a service reuseport groups; founds it if it is not there.
    pub fn take(&mut self, service: &Name, uid: u32, groups: impl IntoIterator<Item = Group>) {
        let owned = self
            .services
            .entry(service.clone())
            .or_insert_with(|| Owned {
                uid,
                groups: BTreeSet::new(),
            });
        owned.groups.extend(groups);
    }

    /// Takes back groups of which a service has no listener any more: those whose endpoint is not
    /// in use.
    pub fn release(&mut self, service: &Name, in_use: impl Fn(Endpoint) -> bool) {
        if let Some(owned) = self.services.get_mut(service) {
            owned.groups.retain(|group| in_use(group.endpoint));
        }
    }

    /// A service is over.
    pub fn remove(&mut self, service: &Name) {
        self.services.remove(service);
    }
}
