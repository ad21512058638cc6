//! Reuseport groups: what makes listeners members of one, and which take connections of each other.

use std::net::IpAddr;

use synflip_types::Endpoint;

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

impl Group {
    /// Whether some connections could go to either of two groups, had the other no listener: the
    /// kernel prefers the one that is bound more narrowly ([`compute_score`], 5.10 to 7.3).
    ///
    /// [`compute_score`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_hashtables.c
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.endpoint.address(), other.endpoint.address());
        let takes = |group: &Self, ip: IpAddr| {
            let own = group.endpoint.address().ip();
            own == ip || own.is_unspecified() && (own.is_ipv4() == ip.is_ipv4() || group.takes_v4())
        };
        let apart = matches!((&self.device, &other.device), (Some(one), Some(two)) if one != two);
        self.netns == other.netns
            && !apart
            && one.port() == two.port()
            && (takes(self, two.ip()) || takes(other, one.ip()))
    }

    /// Whether an IPv6 listener gets IPv4 connections too.
    fn takes_v4(&self) -> bool {
        self.endpoint.address().is_ipv6() && !self.only_v6
    }

    /// Why a listener of this group cannot be in one service with one of another.
    pub(crate) fn difference(&self, sibling: &Self) -> Option<String> {
        let text = if self.netns != sibling.netns {
            "it is in another network namespace than this service's listeners; give the service there \
         another name"
            .to_owned()
        } else if self.uid != sibling.uid {
            format!(
                "its socket belongs to uid {}, its siblings' to uid {}, and the kernel keeps those \
             apart; run both generations as one user (not DynamicUser=), or fchown the socket \
             before listen()",
                self.uid, sibling.uid
            )
        } else if self.endpoint != sibling.endpoint {
            return None;
        } else if self.only_v6 != sibling.only_v6 {
            "it differs from its siblings in IPV6_V6ONLY; set both alike before bind()".to_owned()
        } else if self.device != sibling.device {
            "it is bound to another device than its siblings (SO_BINDTODEVICE)".to_owned()
        } else {
            return None;
        };
        Some(text)
    }
}
