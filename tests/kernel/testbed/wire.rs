//! The single segments: the raw client, the flood and the interface they use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Netns, Tun,
    capability::scaled,
    note, plain,
    raw::{self, Flood, RawClient, Reply, SynOptions},
    wait,
};

use crate::{MS, SECOND};

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

fn a_flood_of_a_plain_listener_is_answered_in_full() -> Result<()> {
    let syns = u64::from(scaled(200_000));
    for family in Family::BOTH {
        let netns = Netns::new()?;
        netns.sysctl("net.ipv4.tcp_syncookies", "2")?;
        let to = SocketAddr::new(raw::flood::server(family), 4000);
        let server = plain::Server::start(&netns, (unspecified(family), 4000).into(), 2, 1)?;
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

fn a_flood_of_plain_restarts_finds_the_lost_syns() -> Result<()> {
    let netns = Netns::new()?;
    netns.sysctl("net.ipv4.tcp_syncookies", "2")?;
    let to = SocketAddr::new(raw::flood::server(Family::V4), 4000);
    let listen = (unspecified(Family::V4), 4000).into();
    let mut server = plain::Server::start(&netns, listen, 1, 1)?;
    let flood = Flood::start(&netns, to, 50_000_000, 60 * SECOND)?;
    for generation in 2..4 {
        wait::until("a busy flood", 10 * SECOND, || {
            flood.sent() > 50_000 * u64::from(generation)
        })?;
        server.stop()?;
        let sent = flood.sent();
        wait::until("SYNs that nobody listens to", 10 * SECOND, || {
            flood.sent() > sent
        })?;
        server = plain::Server::start(&netns, listen, 1, generation)?;
    }
    let report = flood.stop()?;
    note(&format!("2 restarts with a gap: {report:?}"));
    ensure!(
        report.lost > 0 && report.lost < report.sent / 2,
        "{report:?}"
    );
    Ok(())
}

fn a_handshake_can_wait_half_a_second_for_its_ack() -> Result<()> {
    for family in Family::BOTH {
        let netns = Netns::new()?;
        let client = RawClient::new(&netns)?;
        let to = SocketAddr::new(raw::server(family), 4000);
        let server = plain::Server::start(&netns, to, 2, 5)?;
        let mut held = Vec::new();
        for host in 2..12 {
            let mut half_open = client.syn(raw::client(family, host, 5000), to)?;
            ensure!(
                half_open.recv_syn_ack(SECOND)? == Reply::SynAck,
                "no SYN-ACK"
            );
            held.push(half_open);
        }
        wait::pause(500 * MS);
        for half_open in &mut held {
            half_open.ack()?;
            half_open.send(b"12345678")?;
        }
        for half_open in &mut held {
            let answer = half_open.recv_data(SECOND)?;
            ensure!(
                answer == Reply::Data(b"12345678\x05\0\0\0\0\0\0\0".to_vec()),
                "{answer:?}"
            );
            ensure!(half_open.recv_data(SECOND)? == Reply::Fin, "no FIN");
            half_open.rst()?;
        }
        // Too late: the listener of this one closes before its ACK.
        let mut late = client.syn(raw::client(family, 20, 5000), to)?;
        ensure!(late.recv_syn_ack(SECOND)? == Reply::SynAck, "no SYN-ACK");
        let served = server.stop()?;
        ensure!(served.answered == 10, "{served:?}");
        late.ack()?;
        ensure!(late.recv_data(SECOND)? == Reply::Reset, "no reset");
        let mut refused = client.syn(raw::client(family, 21, 5000), to)?;
        ensure!(refused.recv_syn_ack(SECOND)? == Reply::Reset, "no reset");
    }
    Ok(())
}

fn fast_open_carries_data_in_the_syn() -> Result<()> {
    for family in Family::BOTH {
        let netns = Netns::new()?;
        // Server side (2), and for listeners which do not ask for it (0x400).
        netns.sysctl("net.ipv4.tcp_fastopen", "1026")?;
        let client = RawClient::new(&netns)?;
        let to = SocketAddr::new(raw::server(family), 4000);
        let _server = plain::Server::start(&netns, to, 1, 5)?;
        let ask = SynOptions {
            mss: Some(1400),
            fast_open: Some(Vec::new()),
            data: Vec::new(),
        };
        let mut asking = client.syn_with(raw::client(family, 2, 5000), to, &ask)?;
        ensure!(asking.recv_syn_ack(SECOND)? == Reply::SynAck, "no SYN-ACK");
        let cookie = asking
            .syn_ack()
            .and_then(|syn_ack| syn_ack.fast_open_cookie());
        let cookie = cookie.context("no cookie")?.to_vec();
        asking.rst()?;

        let data = SynOptions {
            fast_open: Some(cookie),
            data: b"12345678".to_vec(),
            ..ask
        };
        let mut fast = client.syn_with(raw::client(family, 2, 5001), to, &data)?;
        ensure!(fast.recv_syn_ack(SECOND)? == Reply::SynAck, "no SYN-ACK");
        // Answered before the handshake is complete.
        let answer = fast.recv_data(SECOND)?;
        ensure!(
            answer == Reply::Data(b"12345678\x05\0\0\0\0\0\0\0".to_vec()),
            "{answer:?}"
        );
        fast.rst()?;
    }
    Ok(())
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

const BURST: u32 = 15_000;

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_burst_waits_in_the_queue_of_the_interface
        a_flood_of_a_plain_listener_is_answered_in_full
        a_flood_of_plain_restarts_finds_the_lost_syns
        a_handshake_can_wait_half_a_second_for_its_ack
        fast_open_carries_data_in_the_syn
    }
}
