//! How do two namespaces get a line of the kernel's own? A pair of veth interfaces.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use rtnetlink::{LinkUnspec, LinkVeth};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index};

use crate::{
    Netem, Netns,
    link::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6},
    netlink, qdisc, tun,
};

/// Joins two namespaces with the addresses of [`crate::link`]; with [`Netem`] at both ends.
///
/// The line lasts as long as the namespaces.
///
/// # Errors
///
/// When an interface cannot be made, or there is no netem in this kernel.
pub fn join(client: &Netns, server: &Netns, netem: Option<Netem>) -> Result<()> {
    client.run(|| {
        netlink::talk(async |handle| {
            let pair = LinkVeth::new(NEAR, FAR).build();
            let add = handle.link().add(pair).execute().await;
            add.context("make a pair of interfaces")?;
            let far = LinkUnspec::new_with_name(FAR);
            let far = far.setns_by_fd(server.as_fd().as_raw_fd()).build();
            let moved = handle.link().set(far).execute().await;
            moved.context("move one of them")
        })
    })?;
    let [near, far] = ENDS;
    for (netns, own, other) in [(client, near, far), (server, far, near)] {
        netns
            .run(|| own.set_up(&other, netem))
            .with_context(|| format!("configure {}", own.name))?;
    }
    // Both are up.
    for (netns, end) in [(client, near), (server, far)] {
        netns.run(|| tun::reach(end.v6))?;
    }
    Ok(())
}

/// One of the two interfaces.
#[derive(Clone, Copy)]
struct End {
    name: &'static str,
    ethernet: [u8; 6],
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl End {
    /// Gives the interface addresses, in the calling thread's namespace.
    fn set_up(&self, other: &Self, netem: Option<Netem>) -> Result<()> {
        let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        let index = name_to_index(&any, self.name).context("index")?;
        netlink::talk(async |handle| {
            let ethernet = LinkUnspec::new_with_index(index).address(self.ethernet.into());
            let set = handle.link().set(ethernet.build()).execute().await;
            set.context("set the Ethernet address")
        })?;
        tun::configure(index, (self.v4, 24), (self.v6, 64))?;
        netlink::talk(async |handle| {
            // Known for ever: a question that is lost must not look like a lost connection.
            for address in [IpAddr::V4(other.v4), IpAddr::V6(other.v6)] {
                let neighbour = handle.neighbours().add(index, address);
                let neighbour = neighbour.link_layer_address(&other.ethernet);
                neighbour.execute().await.context("add a neighbour")?;
            }
            match netem {
                Some(netem) => qdisc::replace(handle, index, "netem", Some(netem.options())).await,
                None => Ok(()),
            }
        })
    }
}

const NEAR: &str = "sf-client";
const FAR: &str = "sf-server";
/// Locally administered addresses.
const ENDS: [End; 2] = [
    End {
        name: NEAR,
        ethernet: [2, 0, 0, 0, 0, 1],
        v4: CLIENT_V4,
        v6: CLIENT_V6,
    },
    End {
        name: FAR,
        ethernet: [2, 0, 0, 0, 0, 2],
        v4: SERVER_V4,
        v6: SERVER_V6,
    },
];
