//! A10: a listener whose registration is refused is closed at once, also where the agent has the
//! last descriptor and it is the first of its hash bucket: a SYN that meets this is lost.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Setup,
    product::Spec,
    raw::{self, Flood},
    wait::{SECOND, SOON},
};

use crate::{
    black_box::Operate as _,
    peer::{Peer, listen, register},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a10_a_refused_listener_loses_syns() -> Result<()> {
    hazard("A10", || {
        let processors = thread::available_parallelism()?.get();
        ensure!(processors > 1, "on one processor no SYN can meet a close");
        // Migration hides it: it keeps a closing listener's group. And without state each SYN is
        // answered at once or never.
        let setup = Setup::new().agent_args(&["--no-migration"]);
        let fixture = setup.sysctl("net.ipv4.tcp_syncookies", "2").start()?;
        let net = &fixture.net;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4000));
        let server = fixture.start(&Spec::new(1, address, 2))?;
        let agent = &fixture.agent;
        agent.wait_works(&server.name)?;

        let to = SocketAddr::new(raw::flood::server(Family::V4), address.port());
        let flood = Flood::start(&net.server, to, 1_000_000_000, SOON)?;
        let (begun, mut refused) = (Instant::now(), 0);
        while begun.elapsed() < LONG_ENOUGH {
            // IPv4 puts the newest listener first into its bucket.
            let opened = listen(net, address, 1, 100)?;
            let mut peer = Peer::connect(agent)?;
            // This name is reserved.
            let request = register("web", "latest", &opened)?;
            peer.give(&request, opened.into_iter().map(Into::into).collect())?;
            let answer = peer.receive(10 * SECOND)?.context("no answer")?.body;
            ensure!(answer["reply"] == "refused", "{answer}");
            refused += 1;
        }
        let report = flood.stop()?;
        safe_if!(
            report.lost == 0,
            "{refused} listeners were refused, and the agent had the last descriptor of each: of \
             {} SYNs {} are lost",
            report.sent,
            report.lost
        );
        Ok(Verdict::Safe)
    })
}

/// About fifty SYNs of a million are lost meanwhile.
const LONG_ENOUGH: Duration = Duration::from_secs(3);
