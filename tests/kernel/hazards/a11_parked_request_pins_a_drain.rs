//! A11: a remote client pins a drain for ever: a TCP Fast Open request that was accepted, and
//! reset before its handshake was over, is parked on the listener.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Fixture, Line, Setup,
    network::REQUEST,
    raw::{HalfOpen, Reply, SynOptions},
    wait::{self, SOON},
};

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a11_a_parked_request_pins_a_drain() -> Result<()> {
    hazard("A11", || {
        let (code, said) = drain(HalfOpen::ack)?;
        ensure!(code == 0, "a handshake that ends: exit {code}, {said}");
        let (code, said) = drain(HalfOpen::rst)?;
        ensure!(code == 0 || code == 4, "exit {code}, {said}");
        safe_if!(
            code == 0,
            "a TCP Fast Open request was accepted, then reset: flip exits {code} after 5 s, still \
             draining"
        );
        Ok(Verdict::Safe)
    })
}

/// How a flip ends if a client does something to a connection that was accepted early.
fn drain(end: impl FnOnce(&mut HalfOpen) -> Result<()>) -> Result<(i32, String)> {
    // On the server's side (2), and for listeners which do not ask for it (0x400).
    let setup = Setup::new().line(Line::Raw);
    let fixture = setup.sysctl("net.ipv4.tcp_fastopen", "1026").start()?;
    let _old = first(&fixture, &[])?;
    let _new = fixture.start(&fixture.spec(2, 2))?;
    let mut early = fast_open(&fixture)?;
    end(&mut early)?;
    let flip = ["flip", "--to", "gen2", "--timeout", "5", "--json"];
    let cli = fixture.agent.tried(&flip)?;
    Ok((cli.code, cli.stderr))
}

/// A connection that the server has accepted and answered before its handshake is over.
fn fast_open(fixture: &Fixture) -> Result<HalfOpen> {
    let net = &fixture.net;
    let from = net.fresh();
    let syn = |port: u16, cookie: Vec<u8>, data: &[u8]| -> Result<HalfOpen> {
        let options = SynOptions {
            mss: Some(1400),
            fast_open: Some(cookie),
            data: data.to_vec(),
        };
        // A cookie is good for the address that asked for it; only the port differs.
        let mut half_open = net
            .raw()?
            .syn_with((from.ip(), port).into(), net.address, &options)?;
        let reply = half_open.recv_syn_ack(SOON)?;
        ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
        Ok(half_open)
    };
    let mut asking = syn(from.port(), Vec::new(), &[])?;
    let cookie = asking
        .syn_ack()
        .and_then(|syn_ack| syn_ack.fast_open_cookie());
    let cookie = cookie.context("no cookie")?.to_vec();
    asking.rst()?;
    let port = from.port() + 1;
    let half_open = syn(port, cookie, REQUEST)?;
    // Accepted, answered and closed: FIN-WAIT-1.
    let client = format!(":{port:04X} 04 ");
    wait::until("the server has answered", SOON, || {
        let table = net
            .server
            .run(|| fs::read_to_string("/proc/thread-self/net/tcp"));
        table.is_ok_and(|table| table.contains(&client))
    })?;
    Ok(half_open)
}
