//! Promise: the test bed tells the truth, so that the other tests can rely on it.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use synflip_bed::{
    Delay, Family, Link, Netns,
    capability::is_slow,
    link,
    load::{self, Config, Mode, Outcome, Report},
    note, plain, wait,
};

#[path = "testbed/wire.rs"]
mod wire;

fn a_link_has_the_round_trip_time_asked_for() -> Result<()> {
    for family in Family::BOTH {
        let bed = Bed::new(Delay::of(20 * MS))?;
        let listener = bed
            .server
            .run(|| TcpListener::bind((link::server(family), 0)))?;
        let to = listener.local_addr()?;
        let mut times = bed.client.run(|| {
            (0..31)
                .map(|_| {
                    let start = Instant::now();
                    TcpStream::connect(to).map(|_| start.elapsed())
                })
                .collect::<Result<Vec<_>, _>>()
        })?;
        times.sort();
        ensure!(
            times[0] >= 20 * MS,
            "{family:?}: shorter than asked: {times:?}"
        );
        // An emulated machine gets to its timers late.
        let late = if is_slow() { 200 * MS } else { 30 * MS };
        ensure!(times[15] < late, "{family:?}: longer than asked: {times:?}");
    }
    Ok(())
}

fn a_link_drops_the_share_asked_for() -> Result<()> {
    let bed = Bed::new(Delay {
        rtt: MS,
        loss: 0.01,
        seed: 7,
    })?;
    let server = plain::Server::start(&bed.server, addr(Family::V4), 2, 1)?;
    // No timeouts: a client waits as long as TCP takes to mend it.
    let config = Config {
        timeout: 60 * SECOND,
        ..Config::closed(server.addr(), 64, 2 * SECOND)
    };
    let report = bed.load(&config)?;
    let stats = bed.link.close()?;
    for direction in [stats.to_server, stats.to_client] {
        let all = direction.forwarded + direction.dropped;
        let share = direction.dropped as f64 / all as f64;
        ensure!(
            all > 1000 && (0.005..0.02).contains(&share),
            "dropped {share} of {all}"
        );
    }
    ensure!(report.ok > 100, "{report:?}");
    Ok(())
}

fn nothing_is_lost_without_a_restart() -> Result<()> {
    for (family, rtt) in [
        (Family::V4, MS),
        (Family::V6, MS),
        (Family::V4, Duration::ZERO),
        (Family::V6, 20 * MS),
    ] {
        let bed = Bed::new(Delay::of(rtt))?;
        let server = plain::Server::start(&bed.server, addr(family), 4, 3)?;
        let report = bed.load(&Config::closed(server.addr(), 256, 2 * SECOND))?;
        note(&format!(
            "{family:?} at {rtt:?}: {:.0} connections/s, {:?}",
            report.per_second, report.latency_us
        ));
        let served = server.stop()?;
        let busy = if is_slow() { 100 } else { 1000 };
        ensure!(
            report.lost == 0 && report.ok > busy,
            "{family:?} at {rtt:?}: {report:?}"
        );
        ensure!(
            report.by_generation.get(&3) == Some(&report.ok),
            "{report:?}"
        );
        ensure!(served.answered == report.ok, "{served:?} but {report:?}");
    }
    Ok(())
}

fn refused_stalled_and_reset_are_told_apart() -> Result<()> {
    let bed = Bed::new(Delay::of(MS))?;
    for family in Family::BOTH {
        let silent = bed.server.run(|| TcpListener::bind(addr(family)))?;
        let closed = bed
            .server
            .run(|| TcpListener::bind(addr(family)))?
            .local_addr()?;
        let nobody = match family {
            Family::V4 => "10.77.0.3:80".parse()?,
            Family::V6 => "[fd77::3]:80".parse()?,
        };
        let rude = bed.server.run(|| TcpListener::bind(addr(family)))?;
        let wrong = bed.server.run(|| TcpListener::bind(addr(family)))?;
        let (rude_addr, wrong_addr) = (rude.local_addr()?, wrong.local_addr()?);
        thread::spawn(move || {
            serve(&rude, |stream| {
                Socket::from(stream).set_linger(Some(Duration::ZERO))
            })
        });
        thread::spawn(move || {
            serve(&wrong, |mut stream| {
                stream.read_exact(&mut [0; 8])?;
                stream.write_all(&[7; 16])
            })
        });
        for (to, outcome) in [
            (closed, Outcome::Refused),
            (nobody, Outcome::ConnectTimeout),
            (silent.local_addr()?, Outcome::Stalled),
            (rude_addr, Outcome::Reset),
            (wrong_addr, Outcome::Reset),
        ] {
            let config = Config {
                timeout: 500 * MS,
                ..Config::closed(to, 4, 100 * MS)
            };
            let report = bed.load(&config)?;
            let counts = [
                (Outcome::Ok, report.ok),
                (Outcome::Refused, report.refused),
                (Outcome::Reset, report.reset),
                (Outcome::ConnectTimeout, report.connect_timeout),
                (Outcome::Stalled, report.stalled),
            ];
            for (counted, count) in counts {
                ensure!(
                    (count > 0) == (counted == outcome),
                    "{outcome:?} {to}: {report:?}"
                );
            }
            ensure!(
                (report.corrupt > 0) == (to == wrong_addr),
                "{to}: {report:?}"
            );
            ensure!(
                report.lost == report.reset + report.refused + report.timeout,
                "{report:?}"
            );
        }
    }
    Ok(())
}

fn a_full_port_range_is_no_loss() -> Result<()> {
    let bed = Bed::new(Delay::of(MS))?;
    bed.client
        .sysctl("net.ipv4.ip_local_port_range", "40000 40009")?;
    let silent = bed.server.run(|| TcpListener::bind(addr(Family::V4)))?;
    let config = Config {
        timeout: 100 * MS,
        ..Config::closed(silent.local_addr()?, 20, 100 * MS)
    };
    let report = bed
        .client
        .run(|| load::run(&config, &AtomicBool::new(false)))?;
    ensure!(
        report.local_errors.count > 0 && report.local_errors.first.is_some(),
        "{report:?}"
    );
    ensure!(
        report.lost == report.stalled && report.stalled == 10,
        "{report:?}"
    );
    Ok(())
}

fn the_open_loop_keeps_its_rate() -> Result<()> {
    let bed = Bed::new(Delay::of(MS))?;
    let server = plain::Server::start(&bed.server, addr(Family::V4), 2, 1)?;
    let dir = tempfile::tempdir()?;
    let samples = dir.path().join("samples");
    let open = Mode::Open {
        rate: 500.0,
        max_in_flight: 1000,
    };
    let config = Config {
        mode: open,
        samples: Some(samples.clone()),
        ..Config::closed(server.addr(), 1, 2 * SECOND)
    };
    let before = load::monotonic_us();
    let report = bed.load(&config)?;
    let after = load::monotonic_us();
    ensure!(
        (850..1150).contains(&report.ok) && report.lost == 0,
        "{report:?}"
    );
    ensure!(report.overrun == 0, "{report:?}");
    note(&format!(
        "500 connections/s at 1 ms: {:?}",
        report.latency_us
    ));
    let samples = load::read_samples(&samples)?;
    ensure!(
        samples.len() as u64 == report.ok,
        "{} samples, {report:?}",
        samples.len()
    );
    ensure!(
        samples
            .iter()
            .all(|sample| (before..after).contains(&sample.start_us))
    );
    ensure!(
        samples
            .iter()
            .all(|sample| sample.generation == 1 && sample.latency_us >= 2000)
    );

    let config = Config {
        mode: Mode::Open {
            rate: 2000.0,
            max_in_flight: 1,
        },
        ..config
    };
    let report = bed.load(&config)?;
    ensure!(report.overrun > report.ok, "{report:?}");
    Ok(())
}

fn plain_restarts_lose_connections() -> Result<()> {
    let bed = Bed::new(Delay::of(MS))?;
    let mut server = plain::Server::start(&bed.server, addr(Family::V4), 4, 1)?;
    let config = Config::closed(server.addr(), 256, 60 * SECOND);
    let stop = AtomicBool::new(false);
    let report = thread::scope(|scope| -> Result<Report> {
        let load = scope.spawn(|| bed.client.run(|| load::run(&config, &stop)));
        for generation in 2..22 {
            wait::pause(60 * MS);
            let next = plain::Server::start(&bed.server, server.addr(), 4, generation)?;
            wait::pause(10 * MS);
            std::mem::replace(&mut server, next).stop()?;
        }
        wait::pause(60 * MS);
        stop.store(true, Relaxed);
        load.join().expect("the load does not panic")
    })?;
    note(&format!(
        "20 plain restarts: {} of {} lost",
        report.lost,
        report.ok + report.lost
    ));
    ensure!(report.local_errors.count == 0, "{report:?}");
    ensure!(report.lost > 0 && report.reset > 0, "{report:?}");
    // Each works for 70 ms, in which an emulated machine may answer nobody.
    let generations = if is_slow() { 7 } else { 21 };
    ensure!(report.by_generation.len() >= generations, "{report:?}");
    Ok(())
}

/// Two namespaces and the link between them.
struct Bed {
    link: Link,
    client: Netns,
    server: Netns,
}

impl Bed {
    fn new(delay: Delay) -> Result<Self> {
        let (client, server) = (Netns::new()?, Netns::new()?);
        Ok(Self {
            link: Link::join(&client, &server, delay)?,
            client,
            server,
        })
    }

    fn load(&self, config: &Config) -> Result<Report> {
        let report = self
            .client
            .run(|| load::run(config, &AtomicBool::new(false)))?;
        ensure!(report.local_errors.count == 0, "{report:?}");
        Ok(report)
    }
}

fn addr(family: Family) -> SocketAddr {
    (link::server(family), 0).into()
}

fn serve(listener: &TcpListener, answer: impl Fn(TcpStream) -> io::Result<()>) -> Result<()> {
    for stream in listener.incoming() {
        answer(stream.context("accept")?).context("answer")?;
    }
    Ok(())
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_link_has_the_round_trip_time_asked_for
        a_link_drops_the_share_asked_for
        nothing_is_lost_without_a_restart
        refused_stalled_and_reset_are_told_apart
        a_full_port_range_is_no_loss
        the_open_loop_keeps_its_rate
        plain_restarts_lose_connections
    }
}
