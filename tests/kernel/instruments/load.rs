//! Promise: the load counts every connection once, by what became of it.

use std::{
    io::{self, Read as _, Write as _},
    mem,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::AtomicBool,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use synflip_bed::{
    Delay, Family, Line, Network,
    capability::{is_slow, scaled},
    load::{self, Config, Mode, Outcome, Report},
    network::Samples,
    note,
    wait::{self, MS, SECOND},
};

#[test]
fn nothing_is_lost_without_a_restart() -> Result<()> {
    let enough = u64::from(scaled(4000));
    for (family, rtt) in [
        (Family::V4, MS),
        (Family::V6, MS),
        (Family::V4, Duration::ZERO),
        (Family::V6, 20 * MS),
    ] {
        let net = Network::new(family, Line::Link(Delay::of(rtt)))?;
        let server = net.plain(&net.spec(3, 4))?;
        let load = net.load_with(Config::closed(net.address, 256, 60 * SECOND));
        load.more(enough)?;
        let report = load.finish()?;
        note(&format!(
            "{family:?} at {rtt:?}: {:.0} connections/s, {:?}",
            report.per_second, report.latency_us
        ));
        let served = server.stop()?;
        ensure!(
            report.lost == 0 && report.ok >= enough,
            "{family:?} at {rtt:?}: {report:?}"
        );
        ensure!(
            report.by_generation.get(&3) == Some(&report.ok),
            "{report:?}"
        );
        ensure!(served.served == report.ok, "{served:?} but {report:?}");
    }
    Ok(())
}

#[test]
fn refused_stalled_and_reset_are_told_apart() -> Result<()> {
    Family::both(|family| {
        let net = Network::new(family, Line::Link(Delay::of(MS)))?;
        let listen = || {
            let any = SocketAddr::new(net.address.ip(), 0);
            let listener = net.server.run(|| TcpListener::bind(any))?;
            let address = listener.local_addr()?;
            anyhow::Ok((listener, address))
        };
        let (_silent, silent) = listen()?;
        let (_, closed) = listen()?;
        let nobody = match family {
            Family::V4 => "10.77.0.3:80".parse()?,
            Family::V6 => "[fd77::3]:80".parse()?,
        };
        let (rude_listener, rude) = listen()?;
        let (wrong_listener, wrong) = listen()?;
        thread::spawn(move || {
            serve(&rude_listener, |stream| {
                Socket::from(stream).set_linger(Some(Duration::ZERO))
            })
        });
        thread::spawn(move || {
            serve(&wrong_listener, |mut stream| {
                stream.read_exact(&mut [0; 8])?;
                stream.write_all(&[7; 16])
            })
        });
        for (to, outcome) in [
            (closed, Outcome::Refused),
            (nobody, Outcome::ConnectTimeout),
            (silent, Outcome::Stalled),
            (rude, Outcome::Reset),
            (wrong, Outcome::Reset),
        ] {
            let config = Config {
                timeout: 500 * MS,
                ..Config::closed(to, 4, 100 * MS)
            };
            let report = unhindered(&net, &config)?;
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
            ensure!((report.corrupt > 0) == (to == wrong), "{to}: {report:?}");
            ensure!(
                report.lost == report.reset + report.refused + report.timeout,
                "{report:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_full_port_range_is_no_loss() -> Result<()> {
    let net = Network::new(Family::V4, Line::Link(Delay::of(MS)))?;
    net.client
        .sysctl("net.ipv4.ip_local_port_range", "40000 40009")?;
    let _silent = net.server.run(|| TcpListener::bind(net.address))?;
    let config = Config {
        timeout: 100 * MS,
        ..Config::closed(net.address, 20, 100 * MS)
    };
    let report = run(&net, &config)?;
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

#[test]
fn the_open_loop_keeps_its_rate() -> Result<()> {
    let net = Network::new(Family::V4, Line::Link(Delay::of(MS)))?;
    let _server = net.plain(&net.spec(1, 2))?;
    let samples = Samples::new()?;
    let config = Config {
        mode: Mode::Open {
            rate: 500.0,
            max_in_flight: 1000,
        },
        samples: Some(samples.file()),
        ..Config::closed(net.address, 1, 2 * SECOND)
    };
    let before = load::monotonic_us();
    let report = unhindered(&net, &config)?;
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
    let samples = samples.read()?;
    ensure!(
        samples.len() as u64 == report.ok,
        "{} samples, {report:?}",
        samples.len()
    );
    for sample in samples {
        ensure!((before..after).contains(&sample.start_us), "{sample:?}");
        ensure!(
            sample.generation == 1 && sample.latency_us >= 2000,
            "{sample:?}"
        );
    }

    let config = Config {
        mode: Mode::Open {
            rate: 2000.0,
            max_in_flight: 1,
        },
        duration: 500 * MS,
        samples: None,
        ..config
    };
    let report = unhindered(&net, &config)?;
    ensure!(report.overrun > report.ok, "{report:?}");
    Ok(())
}

#[test]
fn plain_restarts_lose_connections() -> Result<()> {
    let net = Network::new(Family::V4, Line::Link(Delay::of(MS)))?;
    let mut server = net.plain(&net.spec(1, 4))?;
    let load = net.load_with(Config::closed(net.address, 256, 60 * SECOND));
    for generation in 2..22 {
        wait::pause(60 * MS);
        let next = net.plain(&net.spec(generation, 4))?;
        wait::pause(10 * MS);
        mem::replace(&mut server, next).stop()?;
    }
    wait::pause(60 * MS);
    let report = load.finish()?;
    note(&format!(
        "20 plain restarts: {} of {} lost",
        report.lost,
        report.ok + report.lost
    ));
    ensure!(report.lost > 0 && report.reset > 0, "{report:?}");
    // Each works for 70 ms, in which an emulated machine may answer nobody.
    let generations = if is_slow() { 7 } else { 21 };
    ensure!(report.by_generation.len() >= generations, "{report:?}");
    Ok(())
}

/// Makes load until its time is over.
fn run(net: &Network, config: &Config) -> Result<Report> {
    net.client
        .run(|| load::run(config, &AtomicBool::new(false)))
}

/// The same, and the generator itself must not have failed.
fn unhindered(net: &Network, config: &Config) -> Result<Report> {
    let report = run(net, config)?;
    ensure!(report.local_errors.count == 0, "{report:?}");
    Ok(report)
}

fn serve(listener: &TcpListener, answer: impl Fn(TcpStream) -> io::Result<()>) -> Result<()> {
    for stream in listener.incoming() {
        answer(stream.context("accept")?).context("answer")?;
    }
    Ok(())
}
