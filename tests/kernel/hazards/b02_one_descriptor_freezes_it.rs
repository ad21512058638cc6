//! B2: a peer's descriptor whose close blocks freezes the agent.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::json;
use socket2::SockRef;
use synflip_bed::{
    Fixture,
    wait::{self, MS, SECOND},
};

use crate::{
    peer::Peer,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b02_one_descriptor_freezes_it() -> Result<()> {
    hazard("B2", || {
        let fixture = Fixture::new()?;
        let (sends, _never_reads) = fixture.net.server.run(|| -> Result<_> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let sends = TcpStream::connect(listener.local_addr()?)?;
            Ok((sends, listener.accept()?.0))
        })?;
        // More than both sides keep: some of it is unsent for as long as nobody reads.
        sends.set_nonblocking(true)?;
        while (&sends).write(&[0; 1 << 16]).is_ok() {}
        let linger = Duration::from_secs(LINGER);
        SockRef::from(&sends)
            .set_linger(Some(linger))
            .context("set SO_LINGER")?;
        sends.set_nonblocking(false)?;
        let address = sends.local_addr()?;
        let peer = Peer::connect(&fixture.agent)?;
        let register = json!({
            "request": "register", "service": "web", "generation": "gen1",
            "listeners": [{ "address": address }],
        });
        peer.give(&register, vec![sends.into()])?;
        wait::pause(300 * MS);
        let begun = Instant::now();
        let status = fixture.agent.begin(&["status"])?;
        let answered = status.end(3 * SECOND);
        drop(peer);
        safe_if!(
            answered.is_ok(),
            "a peer has sent a connected socket with SO_LINGER {LINGER}: no answer to status \
             within {} s",
            begun.elapsed().as_secs()
        );
        Ok(Verdict::Safe)
    })
}

/// In seconds.
const LINGER: u64 = 30;
