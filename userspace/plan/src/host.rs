//! What spans services: whose a name is, whose a reuseport group is, and how much one user may
//! have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use synflip_types::{Cookie, Endpoint, Name};

/// What makes listeners members of one reuseport group ([`inet_reuseport_add_sock`], 5.10 to 7.3).
///
/// [`inet_reuseport_add_sock`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_hashtables.c
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The address.
    pub endpoint: Endpoint,
    /// The socket's owner.
    pub uid: u32,
    /// Its network namespace: the inode.
    pub netns: u64,
    /// IPV6_V6ONLY.
    pub only_v6: bool,
    /// SO_BINDTODEVICE.
    pub device: Option<Vec<u8>>,
}

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
            let siblings = known.into_iter().flat_map(|owned| &owned.groups);
            for sibling in siblings.chain(before.iter().map(|(group, _)| group)) {
                if let Some(why) = difference(group, sibling) {
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

/// Why a listener cannot be in one service with a sibling.
fn difference(listener: &Group, sibling: &Group) -> Option<String> {
    let text = if listener.netns != sibling.netns {
        "it is in another network namespace than this service's listeners; give the service there \
         another name"
            .to_owned()
    } else if listener.uid != sibling.uid {
        format!(
            "its socket belongs to uid {}, its siblings' to uid {}, and the kernel keeps those \
             apart; run both generations as one user (not DynamicUser=), or fchown the socket \
             before listen()",
            listener.uid, sibling.uid
        )
    } else if listener.endpoint != sibling.endpoint {
        return None;
    } else if listener.only_v6 != sibling.only_v6 {
        "it differs from its siblings in IPV6_V6ONLY; set both alike before bind()".to_owned()
    } else if listener.device != sibling.device {
        "it is bound to another device than its siblings (SO_BINDTODEVICE)".to_owned()
    } else {
        return None;
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &str) -> Group {
        Group {
            endpoint: Endpoint::tcp(address.parse().unwrap()),
            uid: 7,
            netns: 1,
            only_v6: false,
            device: None,
        }
    }

    fn host() -> Host {
        let mut host = Host::new(Quotas {
            services: 3,
            services_of_uid: 2,
        });
        let web = "web".parse().unwrap();
        host.take(&web, 7, [group("127.0.0.1:80")]);
        host
    }

    #[test]
    fn a_group_belongs_to_one_service() {
        let (mut host, other) = (host(), "other".parse().unwrap());
        let listener = [(group("127.0.0.1:80"), Cookie(1))];
        let refused = host.admit(&other, 7, &listener).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("service web has listeners there"),
            "{refused}"
        );
        let web = "web".parse().unwrap();
        assert_eq!(host.admit(&web, 7, &listener), Ok(Admission::Known));
        host.release(&web, |_| false);
        assert_eq!(host.admit(&other, 7, &listener), Ok(Admission::New));
    }

    #[test]
    fn another_device_is_another_group() {
        let (host, other) = (host(), "other".parse().unwrap());
        let device = Some(b"eth0".to_vec());
        let group = Group {
            device,
            ..group("127.0.0.1:80")
        };
        assert_eq!(
            host.admit(&other, 7, &[(group, Cookie(1))]),
            Ok(Admission::New)
        );
    }

    #[test]
    fn names_are_owned_and_counted() {
        let mut host = host();
        let at = |port: u16| [(group(&format!("127.0.0.1:{port}")), Cookie(port.into()))];
        let admit =
            |host: &Host, name: &str, uid, port| host.admit(&name.parse().unwrap(), uid, &at(port));
        assert!(matches!(
            admit(&host, "web", 8, 80),
            Err(HostError::NotOwner { .. })
        ));
        assert_eq!(admit(&host, "web", 0, 80), Ok(Admission::Known));
        host.take(&"b".parse().unwrap(), 7, [group("127.0.0.1:81")]);
        assert!(matches!(
            admit(&host, "c", 7, 82),
            Err(HostError::TooManyOfUid { .. })
        ));
        host.take(&"c".parse().unwrap(), 0, [group("127.0.0.1:82")]);
        assert!(matches!(
            admit(&host, "d", 0, 83),
            Err(HostError::TooManyServices { .. })
        ));
    }

    #[test]
    fn siblings_are_alike() {
        let (host, web) = (host(), "web".parse().unwrap());
        let differs =
            |listeners: &[(Group, Cookie)]| host.admit(&web, 7, listeners).unwrap_err().to_string();
        let like = group("127.0.0.1:81");
        let netns = Group {
            netns: 2,
            ..like.clone()
        };
        assert!(differs(&[(netns, Cookie(1))]).contains("network namespace"));
        let uid = Group {
            uid: 8,
            ..like.clone()
        };
        assert!(differs(&[(uid, Cookie(1))]).contains("uid 8"));
        let v6 = Group {
            only_v6: true,
            ..like.clone()
        };
        assert!(differs(&[(like.clone(), Cookie(1)), (v6, Cookie(2))]).contains("IPV6_V6ONLY"));
        assert!(differs(&[(like.clone(), Cookie(1)), (like, Cookie(1))]).contains("twice"));
    }
}
