//! Promise: a client made of single segments does what it is told, when it is told.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use synflip_bed::{
    Family, Line, Network, Setup,
    network::{REQUEST, complete, generation_of},
    raw::{Reply, SynOptions},
    wait::{self, MS, SOON},
};

#[test]
fn a_handshake_can_wait_half_a_second_for_its_ack() -> Result<()> {
    Family::both(|family| {
        let net = Network::new(family, Line::Raw)?;
        let server = net.plain(&net.spec(5, 2))?;
        let mut held = net.half_open(10)?;
        wait::pause(500 * MS);
        for half_open in &mut held {
            ensure!(complete(half_open)? == 5, "another server's answer");
        }
        // Too late: the listener of this one closes before its ACK.
        let mut late = net.half_open(1)?.remove(0);
        let served = server.stop()?;
        ensure!(served.served == 10, "{served:?}");
        late.ack()?;
        ensure!(late.recv_data(SOON)? == Reply::Reset, "no reset");
        let mut refused = net.raw()?.syn(net.fresh(), net.address)?;
        ensure!(refused.recv_syn_ack(SOON)? == Reply::Reset, "no reset");
        Ok(())
    })
}

#[test]
fn fast_open_carries_data_in_the_syn() -> Result<()> {
    Family::both(|family| {
        // Server side (2), and for listeners which do not ask for it (0x400).
        let net = Setup::new()
            .family(family)
            .line(Line::Raw)
            .sysctl("net.ipv4.tcp_fastopen", "1026")
            .network()?;
        let _server = net.plain(&net.spec(5, 1))?;
        let ask = SynOptions {
            mss: Some(1400),
            fast_open: Some(Vec::new()),
            data: Vec::new(),
        };
        let from = net.fresh();
        let mut asking = net.raw()?.syn_with(from, net.address, &ask)?;
        ensure!(asking.recv_syn_ack(SOON)? == Reply::SynAck, "no SYN-ACK");
        let cookie = asking
            .syn_ack()
            .and_then(|syn_ack| syn_ack.fast_open_cookie());
        let cookie = cookie.context("no cookie")?.to_vec();
        asking.rst()?;

        let data = SynOptions {
            fast_open: Some(cookie),
            data: REQUEST.to_vec(),
            ..ask
        };
        // A cookie is good for the address that asked for it; only the port differs.
        let from = SocketAddr::new(from.ip(), net.fresh().port());
        let mut fast = net.raw()?.syn_with(from, net.address, &data)?;
        ensure!(fast.recv_syn_ack(SOON)? == Reply::SynAck, "no SYN-ACK");
        // Answered before the handshake is complete.
        match fast.recv_data(SOON)? {
            Reply::Data(answer) => ensure!(generation_of(&answer)? == 5, "{answer:?}"),
            other => bail!("no answer but {other:?}"),
        }
        fast.rst()
    })
}
