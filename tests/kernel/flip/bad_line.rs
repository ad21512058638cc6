//! Promise: nothing is lost on a flip over a line that the kernel itself makes bad.

use std::{
    net::{IpAddr, UdpSocket},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use synflip_bed::{
    Family, Line, Netem, Netns, Setup, capability, link,
    load::{self, Config},
    note,
    wait::{self, MS, SECOND},
};

use crate::helpers::restarts::Restarts;

/// What is between the clients and the servers, in each direction.
const BAD: Netem = Netem {
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(5),
    loss: 0.02,
    reorder: 0.05,
};

#[test]
fn twenty_flips_over_a_bad_line_lose_nothing_that_it_does_not_lose_anyway() -> Result<()> {
    if !capability::needs("netem") {
        return Ok(());
    }
    let both = Family::BOTH.map(|family| (link::server(family), 8080).into());
    let restarting = Restarts {
        line: Line::Veth(Some(BAD)),
        listen: both.into(),
        connect: both.into(),
        // About so many connections in a fifth of a second.
        clients: 8,
        // A SYN may be lost five times.
        timeout: 60 * SECOND,
        ..Restarts::new(Family::V4, 20)
    };
    // Three lines at one time: all that anyone does is wait.
    let (quiet, plain, seen) = thread::scope(|scope| -> Result<_> {
        let quiet = scope.spawn(|| restarting.quiet(10 * SECOND));
        let plain = scope.spawn(|| restarting.plain(10));
        let seen = restarting.steered()?;
        let [quiet, plain] =
            [quiet, plain].map(|one| one.join().map_err(|_panic| anyhow!("panicked")));
        Ok((quiet??, plain??, seen))
    })?;
    let report = &seen.report;
    ensure!(quiet.ok >= 50 && report.ok >= 50, "{report:?} {quiet:?}");
    ensure!(report.lost <= quiet.lost, "{report:?} {quiet:?}");
    ensure!(plain.lost > quiet.lost, "{plain:?} {quiet:?}");
    ensure!(seen.syns_again > 0, "the line loses nothing");
    for endpoint in &seen.service.endpoints {
        ensure!(endpoint.selected > 0, "{endpoint:?}");
    }
    Ok(())
}

/// That the kernel has understood what it was asked for.
#[test]
fn netem_delays_loses_and_reorders() -> Result<()> {
    if !capability::needs("netem") {
        return Ok(());
    }
    let net = Setup::new().line(Line::Veth(Some(BAD))).network()?;
    let bind = |netns: &Netns, ip: IpAddr| netns.run(|| UdpSocket::bind((ip, 0)));
    for family in Family::BOTH {
        let from = bind(&net.client, link::client(family))?;
        let to = bind(&net.server, link::server(family))?;
        to.set_read_timeout(Some(SECOND))?;
        let begun = Instant::now();
        // At one time and not all at once: a socket's buffer has room for a few hundred.
        let (sent, (numbers, last)) = thread::scope(|scope| -> Result<_> {
            let receive = scope.spawn(|| {
                let (mut numbers, mut buffer, mut last) = (Vec::new(), [0; 4], Duration::ZERO);
                while to.recv(&mut buffer).is_ok() {
                    numbers.push(u32::from_ne_bytes(buffer));
                    last = begun.elapsed();
                }
                (numbers, last)
            });
            for number in 0..PACKETS {
                if number % 20 == 0 {
                    wait::pause(2 * MS);
                }
                from.send_to(&number.to_ne_bytes(), to.local_addr()?)?;
            }
            let sent = begun.elapsed();
            Ok((sent, receive.join().map_err(|_panic| anyhow!("panicked"))?))
        })?;
        let lost = f64::from(PACKETS) - numbers.len() as f64;
        let overtaken = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
        note(&format!(
            "{family:?}: {lost} of {PACKETS} lost, {overtaken} overtaken, sent in {sent:?}, last \
             after {last:?}"
        ));
        let share = lost / f64::from(PACKETS);
        ensure!((0.005..0.05).contains(&share), "{share} lost");
        ensure!(overtaken > 0, "none overtaken");
        ensure!(
            last >= BAD.delay && last < sent + SECOND,
            "not delayed as asked"
        );
    }
    Ok(())
}

/// Without netem the same line loses nothing, so what is lost is netem's doing.
#[test]
fn a_line_of_the_kernels_own_loses_nothing_by_itself() -> Result<()> {
    for family in Family::BOTH {
        let net = Setup::new()
            .family(family)
            .line(Line::Veth(None))
            .network()?;
        let plain = net.plain(&net.spec(1, 2))?;
        let config = Config::closed(net.address, 8, SECOND / 5);
        let report = net
            .client
            .run(|| load::run(&config, &AtomicBool::new(false)))?;
        plain.stop().context("stop the server")?;
        ensure!(report.lost == 0 && report.ok > 20, "{family:?}: {report:?}");
    }
    Ok(())
}

const PACKETS: u32 = 2000;
