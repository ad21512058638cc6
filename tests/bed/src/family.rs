use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
};

use anyhow::{Context as _, Result, anyhow};

/// The IP version a test runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both versions, for tests which must hold for each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// All addresses of a host.
    pub const fn any(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// A host's address for itself.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    /// Does the same over both at one time: most of it is waiting.
    ///
    /// # Errors
    ///
    /// When it fails over one, which the error names.
    pub fn both(f: impl Fn(Self) -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let f = &f;
            let threads = Self::BOTH.map(|family| (family, scope.spawn(move || f(family))));
            threads.into_iter().try_for_each(|(family, thread)| {
                let result = thread.join().map_err(|_panic| anyhow!("panicked"));
                result.flatten().with_context(|| format!("{family:?}"))
            })
        })
    }
}
