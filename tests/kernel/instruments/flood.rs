//! Promise: a flood knows which of its SYNs was not answered, and the interface loses none of them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Netns, Tun,
    capability::{is_slow, scaled},
    note,
    product::{Generation, Spec},
    raw::{self, Flood},
    wait::{self, SECOND, SOON},
};

#[test]
fn a_burst_waits_in_the_queue_of_the_interface() -> Result<()> {
    let netns = Netns::new()?;
    let v6 = Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 1);
    let tun = Tun::open(&netns, (Ipv4Addr::new(10, 80, 0, 1), 24), (v6, 64))?;
    let sender = netns.run(|| UdpSocket::bind("10.80.0.1:0"))?;
    for _ in 0..BURST {
        sender
            .send_to(&[0; 8], "10.80.0.2:9")
            .context("send a datagram")?;
    }
    let (mut received, mut buffer) = (0, [0; Tun::MTU]);
    while let Some(length) = tun.read(&mut buffer)? {
        // The kernel says a few things of its own over IPv6.
        received += u32::from(length == 20 + 8 + 8);
    }
    ensure!(received == BURST, "{received} of {BURST} packets");
    Ok(())
}

#[test]
fn a_flood_of_a_plain_listener_is_answered_in_full() -> Result<()> {
    let syns = u64::from(scaled(200_000));
    for family in Family::BOTH {
        let netns = Netns::new()?;
        netns.sysctl("net.ipv4.tcp_syncookies", "2")?;
        let to = SocketAddr::new(raw::flood::server(family), 4000);
        let server =
            Generation::start_plain(&netns, &Spec::new(1, (family.any(), 4000).into(), 2))?;
        let report = Flood::start(&netns, to, syns, 60 * SECOND)?.join()?;
        note(&format!(
            "{family:?} flood: {:.0} SYN/s, {report:?}",
            report.per_second
        ));
        ensure!(
            report.sent == syns && report.lost == 0 && report.rst == 0,
            "{report:?}"
        );
        server.stop()?;

        // The same without a listener: the flood is not blind.
        let report = Flood::start(&netns, to, 1000, SECOND)?.join()?;
        ensure!(
            report.sent == 1000 && report.lost == 1000 && report.rst == 1000,
            "{report:?}"
        );
    }
    Ok(())
}

#[test]
fn a_flood_of_plain_restarts_finds_the_lost_syns() -> Result<()> {
    let netns = Netns::new()?;
    netns.sysctl("net.ipv4.tcp_syncookies", "2")?;
    let to = SocketAddr::new(raw::flood::server(Family::V4), 4000);
    let listen = (Family::V4.any(), 4000).into();
    let mut server = Generation::start_plain(&netns, &Spec::new(1, listen, 1))?;
    let flood = Flood::start(&netns, to, 50_000_000, 60 * SECOND)?;
    let busy = if is_slow() { 20_000 } else { 50_000 };
    for generation in 2..4 {
        wait::until("a busy flood", SOON, || {
            flood.sent() > busy * u64::from(generation)
        })?;
        server.stop()?;
        let sent = flood.sent();
        wait::until("SYNs that nobody listens to", SOON, || flood.sent() > sent)?;
        server = Generation::start_plain(&netns, &Spec::new(generation, listen, 1))?;
    }
    let report = flood.stop()?;
    note(&format!("2 restarts with a gap: {report:?}"));
    ensure!(
        report.lost > 0 && report.lost < report.sent / 2,
        "{report:?}"
    );
    Ok(())
}

const BURST: u32 = 15_000;
