//! How does a test get hold of the packets? It is the wire of a TUN interface.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rtnetlink::{
    LinkUnspec,
    packet_route::address::{AddressAttribute, AddressFlags},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    net::{AddressFamily, SocketType, netdevice::name_to_index},
};

use crate::{Netns, qdisc, sys};

/// A TUN interface inside a namespace, up and with addresses.
///
/// Reads and writes never block and take a shared reference: the kernel
/// serialises what it must, and several threads may use one interface.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// The largest packet on the wire.
    pub const MTU: usize = 1500;

    /// Opens an interface in `netns` with these addresses and prefix lengths.
    ///
    /// # Errors
    ///
    /// Without CAP_NET_ADMIN or `/dev/net/tun`, or when an address is taken.
    pub fn open(netns: &Netns, v4: (Ipv4Addr, u8), v6: (Ipv6Addr, u8)) -> Result<Self> {
        netns.run(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                .open("/dev/net/tun")
                .context("open /dev/net/tun")?;
            let name = sys::make_tun(file.as_fd(), "sf%d").context("make a TUN interface")?;
            let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
                .context("socket")?;
            let index = name_to_index(&any, &name).with_context(|| format!("index of {name}"))?;
            configure(index, v4, v6).with_context(|| format!("configure {name}"))?;
            reach(v6.0).with_context(|| format!("reach {} on {name}", v6.0))?;
            Ok(Self { file, name })
        })
    }

    /// The name of the interface in its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the next packet the kernel has sent, or none if there is none.
    ///
    /// # Errors
    ///
    /// When the interface is down or gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands a packet to the kernel, which handles it before this returns.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the packet.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write_all(packet)
    }

    /// Waits until there is a packet to read; false when `deadline` came first.
    ///
    /// # Errors
    ///
    /// Those of `ppoll`.
    pub fn wait(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = timespec(deadline.saturating_duration_since(Instant::now()));
            match poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A duration as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Brings an interface of the calling thread's namespace up, with addresses.
pub(crate) fn configure(index: u32, v4: (Ipv4Addr, u8), v6: (Ipv6Addr, u8)) -> Result<()> {
    crate::netlink::talk(async |handle| {
        let up = LinkUnspec::new_with_index(index)
            .mtu(1500)
            .txqueuelen(QUEUE)
            .up()
            .build();
        handle
            .link()
            .set(up)
            .execute()
            .await
            .context("bring it up")?;
        // Many kernels have fq_codel by default, which drops what has waited for 5 ms: with two
        // threads at both ends and too few processors, that is a loss which is none of the
        // server's. This one drops nothing unless it is full.
        qdisc::replace(handle.clone(), index, "pfifo", None).await?;
        let addresses: [(IpAddr, u8); 2] = [(v4.0.into(), v4.1), (v6.0.into(), v6.1)];
        for (address, prefix) in addresses {
            let mut request = handle.address().add(index, address, prefix);
            if address.is_ipv6() {
                // A TUN has no neighbours to ask; the flag says so on every kernel.
                let nodad = AddressAttribute::Flags(AddressFlags::Nodad);
                request.message_mut().attributes.push(nodad);
            }
            request
                .execute()
                .await
                .with_context(|| format!("add {address}/{prefix}"))?;
        }
        Ok(())
    })
}

/// Waits until packets to `address` arrive here.
///
/// Even an address that skips duplicate address detection becomes local only when
/// a worker of the kernel (`addrconf_dad_work`) gets to it. Until then its packets
/// are counted as `Ip6InAddrErrors` and dropped: a loss that is none of the server's.
pub(crate) fn reach(address: Ipv6Addr) -> Result<()> {
    let socket = UdpSocket::bind((address, 0)).context("bind")?;
    let own = socket.local_addr().context("local address")?;
    socket
        .set_read_timeout(Some(Duration::from_millis(2)))
        .context("set a timeout")?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        socket.send_to(&[0], own).context("send to ourselves")?;
        match socket.recv(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).context("receive"),
            Err(_) => {}
        }
    }
}

/// Packets the kernel queues for the reader: a burst must not overflow it.
const QUEUE: u32 = 20_000;
