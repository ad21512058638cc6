//! TCP Fast Open, by hand: with a cookie, a connection is queued by its SYN.

use std::net::SocketAddr;

use super::{Network, REQUEST};
use crate::{
    raw::{HalfOpen, Reply, SynOptions},
    wait::SOON,
};
use anyhow::{Context as _, Result, ensure};

/// On the server's side (2), and for listeners which do not ask for it (0x400).
pub const FAST_OPEN: (&str, &str) = ("net.ipv4.tcp_fastopen", "1026");

/// The cookie that the host gives its clients' network, and the address that asked for it.
///
/// # Errors
///
/// When there is none, or no raw client.
pub fn cookie(net: &Network) -> Result<(SocketAddr, Vec<u8>)> {
    let from = net.fresh();
    let mut asking = begin(net, from, Vec::new(), &[])?;
    let cookie = asking
        .syn_ack()
        .and_then(|syn_ack| syn_ack.fast_open_cookie());
    let cookie = cookie.context("no cookie")?.to_vec();
    asking.rst()?;
    Ok((from, cookie))
}

/// A SYN with the request, which the server takes at once.
///
/// # Errors
///
/// When there is no SYN-ACK, or no raw client.
pub fn fast_open(net: &Network, (from, cookie): &(SocketAddr, Vec<u8>)) -> Result<HalfOpen> {
    // A cookie is good for the address that asked for it; only the port differs.
    let from = SocketAddr::new(from.ip(), net.fresh().port());
    begin(net, from, cookie.clone(), REQUEST)
}

fn begin(net: &Network, from: SocketAddr, cookie: Vec<u8>, data: &[u8]) -> Result<HalfOpen> {
    let options = SynOptions {
        mss: Some(1400),
        fast_open: Some(cookie),
        data: data.to_vec(),
    };
    let mut begun = net.raw()?.syn_with(from, net.address, &options)?;
    let reply = begun.recv_syn_ack(SOON)?;
    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
    Ok(begun)
}
