//! A5: a new endpoint that overlaps one of the service takes its traffic before it is ready, and
//! keeps it when it has died.

use std::{net::SocketAddr, os::fd::AsFd as _};

use anyhow::{Result, ensure};
use synflip_bed::{Fixture, product::Spec, wait::SECOND};

use crate::{
    black_box::{Operate as _, PATIENCE, ask},
    peer::{Peer, listen, register},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a05_a_new_endpoint_takes_traffic_before_it_is_ready() -> Result<()> {
    hazard("A5", || {
        // The other IP version's wildcard, and one address of a wildcard.
        let pairs = [
            ("[::]", "0.0.0.0"),
            ("[::]", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
        ];
        let mut seen = Vec::new();
        for (wide, narrow) in pairs {
            if let Verdict::Seen(what) = overlap(wide, narrow)? {
                seen.push(what);
            }
        }
        safe_if!(seen.is_empty(), "{}", seen.join("; "));
        Ok(Verdict::Safe)
    })
}

/// gen1 listens on one address, gen2 also on one that is part of it, and gets no further.
fn overlap(wide: &str, narrow: &str) -> Result<Verdict> {
    let fixture = Fixture::new()?;
    let net = &fixture.net;
    let at =
        |ip: &str| -> Result<SocketAddr> { Ok(format!("{ip}:{}", net.address.port()).parse()?) };
    let old = fixture.start(&Spec::new(1, at(wide)?, 2))?;
    fixture.agent.wait_works("gen1")?;
    let before = ask(net, 20, PATIENCE)?;
    ensure!(before.from(1) == 20, "{before:?}");

    let mut opened = listen(net, at(wide)?, 1, 100)?;
    opened.extend(listen(net, at(narrow)?, 1, 100)?);
    let fds: Vec<_> = opened.iter().map(|listener| listener.as_fd()).collect();
    let mut peer = Peer::connect(&fixture.agent)?;
    let answer = peer.tried(&register("web", "gen2", &opened)?, &fds)?;
    let refused = answer["reply"] == "refused";
    if refused {
        // As the helper does.
        opened.clear();
    }
    let unready = ask(net, 20, SECOND)?;
    drop((peer, opened));
    let dead = ask(net, 20, SECOND)?;
    drop(old);
    safe_if!(
        unready.from(1) == 20 && dead.from(1) == 20,
        "gen1 works on {wide}, gen2 has registered {narrow} too: of 20 clients {} hang while it is \
         not ready, and {} when it is dead",
        unready.lost(),
        dead.lost()
    );
    Ok(Verdict::Safe)
}
