//! Promise: a link is as long as asked, and as bad.

use std::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use anyhow::{Result, ensure};
use synflip_bed::{
    Delay, Family, Line, Link, Network,
    capability::is_slow,
    wait::{self, MS, SOON},
};

#[test]
fn a_link_has_the_round_trip_time_asked_for() -> Result<()> {
    for family in Family::BOTH {
        let net = Network::new(family, Line::Link(Delay::of(20 * MS)))?;
        let _listener = net.server.run(|| TcpListener::bind(net.address))?;
        let mut times = net.client.run(|| {
            (0..31)
                .map(|_| {
                    let start = Instant::now();
                    TcpStream::connect(net.address).map(|_| start.elapsed())
                })
                .collect::<Result<Vec<_>, _>>()
        })?;
        times.sort();
        // The clocks of an emulated machine's processors differ a little.
        let short = if is_slow() { 19 * MS } else { 20 * MS };
        ensure!(
            times[0] >= short,
            "{family:?}: shorter than asked: {times:?}"
        );
        // An emulated machine gets to its timers late.
        let late = if is_slow() { 200 * MS } else { 30 * MS };
        ensure!(times[15] < late, "{family:?}: longer than asked: {times:?}");
    }
    Ok(())
}

#[test]
fn a_link_drops_the_share_asked_for() -> Result<()> {
    let line = Line::Link(Delay {
        rtt: MS,
        loss: 0.01,
        seed: 7,
    });
    let net = Network::new(Family::V4, line)?;
    let _server = net.plain(&net.spec(1, 2))?;
    // No timeouts: a client waits as long as TCP takes to mend it.
    let load = net.load(64);
    let seen = || {
        let stats = net.link().map(Link::stats);
        stats.map(|stats| [stats.to_server, stats.to_client])
    };
    let enough = if is_slow() { 1000 } else { 5000 };
    wait::until("packets both ways", SOON, || {
        seen().is_ok_and(|both| both.iter().all(|way| way.forwarded > enough))
    })?;
    let report = load.finish()?;
    for direction in seen()? {
        let all = direction.forwarded + direction.dropped;
        let share = direction.dropped as f64 / all as f64;
        ensure!((0.005..0.02).contains(&share), "dropped {share} of {all}");
    }
    ensure!(report.ok > 100, "{report:?}");
    Ok(())
}
