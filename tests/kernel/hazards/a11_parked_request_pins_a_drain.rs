//! A11: a remote client pins a drain for ever: a TCP Fast Open request that was accepted, and
//! reset before its handshake was over, is parked on the listener.

use std::fs;

use anyhow::{Result, ensure};
use synflip_bed::{
    Fixture, Line, Setup,
    network::{self, FAST_OPEN, cookie},
    raw::HalfOpen,
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
    let setup = Setup::new().line(Line::Raw);
    let fixture = setup.sysctl(FAST_OPEN.0, FAST_OPEN.1).start()?;
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
    let half_open = network::fast_open(net, &cookie(net)?)?;
    // Accepted, answered and closed: FIN-WAIT-1.
    let closing = |line: &str| line.split_whitespace().nth(3) == Some("04");
    wait::until("the server has answered", SOON, || {
        let table = net
            .server
            .run(|| fs::read_to_string("/proc/thread-self/net/tcp"));
        table.is_ok_and(|table| table.lines().any(closing))
    })?;
    Ok(half_open)
}
