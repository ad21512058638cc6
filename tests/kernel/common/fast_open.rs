//! TCP Fast Open, by hand: with a cookie, a connection is queued by its SYN.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use synflip_bed::raw::{HalfOpen, Reply, SynOptions};

use crate::scene::{REQUEST, SOON, Scene};

/// On the server's side (2), and for listeners which do not ask for it (0x400).
pub(crate) const FAST_OPEN: (&str, &str) = ("net.ipv4.tcp_fastopen", "1026");

/// The cookie that the host gives its clients' network.
pub(crate) fn cookie(scene: &Scene) -> Result<(SocketAddr, Vec<u8>)> {
    let from = scene.fresh();
    let ask = SynOptions {
        mss: Some(1400),
        fast_open: Some(Vec::new()),
        data: Vec::new(),
    };
    let mut asking = scene.client.syn_with(from, scene.to, &ask)?;
    let reply = asking.recv_syn_ack(SOON)?;
    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
    let cookie = asking
        .syn_ack()
        .and_then(|syn_ack| syn_ack.fast_open_cookie());
    let cookie = cookie.context("no cookie")?.to_vec();
    asking.rst()?;
    Ok((from, cookie))
}

/// A SYN with the request, which the server takes at once.
pub(crate) fn fast_open(scene: &Scene, (from, cookie): &(SocketAddr, Vec<u8>)) -> Result<HalfOpen> {
    let options = SynOptions {
        mss: Some(1400),
        fast_open: Some(cookie.clone()),
        data: REQUEST.to_vec(),
    };
    // A cookie is good for the address that asked for it; only the port differs.
    let from = SocketAddr::new(from.ip(), scene.fresh().port());
    let mut fast = scene.client.syn_with(from, scene.to, &options)?;
    let reply = fast.recv_syn_ack(SOON)?;
    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
    Ok(fast)
}
