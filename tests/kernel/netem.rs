//! Promise: nothing is lost on a flip over a line that the kernel itself makes bad.

#[path = "common/campaign.rs"]
mod campaign;
#[path = "common/seed.rs"]
mod seed;

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rand::{RngExt as _, rngs::SmallRng};
use synflip_bed::{
    Delay, Family, Netem, Netns, capability, link,
    load::{self, Config, Report},
    note, plain,
    product::Generation,
    veth, wait,
};

use campaign::{Campaign, Road};
use seed::with_seed;

/// What is between the clients and the servers, in each direction.
const BAD: Netem = Netem {
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(5),
    loss: 0.02,
    reorder: 0.05,
};

fn twenty_flips_over_a_bad_line_lose_nothing_that_it_does_not_lose_anyway() -> Result<()> {
    if !capability::needs("netem") {
        return Ok(());
    }
    let both = Family::BOTH.map(|family| (link::server(family), 8080).into());
    let campaign = Campaign {
        listen: both.into(),
        connect: both.into(),
        netem: Some(BAD),
        // About so many connections in a fifth of a second.
        clients: 8,
        // A SYN may be lost five times.
        timeout: 60 * SECOND,
        ..Campaign::new(both[0], Delay::default(), 20)
    };
    with_seed(|rng| {
        let quiet = campaign.quiet(rng, 10 * SECOND)?;
        let story = campaign.steered(rng)?;
        let plain = campaign.plain(rng, 5)?;
        let flips = campaign.flips;
        for (what, report) in [
            ("nothing".into(), &quiet),
            (format!("{flips} flips"), &story.report),
            ("5 restarts without steering".into(), &plain),
        ] {
            let (lost, ok, latency) = (report.lost, report.ok, report.latency_us);
            note(&format!(
                "{what}: {lost} lost of {ok}, p99 {} us",
                latency.p99
            ));
        }
        let report = &story.report;
        ensure!(quiet.ok >= 50 && report.ok >= 50, "{report:?} {quiet:?}");
        ensure!(report.lost <= quiet.lost, "{report:?} {quiet:?}");
        ensure!(plain.lost > quiet.lost, "{plain:?} {quiet:?}");
        ensure!(story.syns_again > 0, "the line loses nothing");
        for endpoint in &story.service.endpoints {
            ensure!(endpoint.selected > 0, "{endpoint:?}");
        }
        Ok(())
    })
}

impl Campaign {
    /// The same load for so long, on a server that nobody replaces.
    fn quiet(&self, rng: &mut SmallRng, length: Duration) -> Result<Report> {
        let road = Road::new(self.delay, self.netem)?;
        let server = Generation::start_plain(&road.server, &self.spec(1, *self.listeners.end()))?;
        let (report, _server) = road.load(self, rng.random(), || {
            wait::pause(length);
            Ok(server)
        })?;
        Ok(report)
    }
}

/// That the kernel has understood what it was asked for.
fn netem_delays_loses_and_reorders() -> Result<()> {
    if !capability::needs("netem") {
        return Ok(());
    }
    let (client, server) = (Netns::new()?, Netns::new()?);
    veth::join(&client, &server, Some(BAD))?;
    let bind = |netns: &Netns, ip: IpAddr| netns.run(|| UdpSocket::bind((ip, 0)));
    for family in Family::BOTH {
        let from = bind(&client, link::client(family))?;
        let to = bind(&server, link::server(family))?;
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
                    wait::pause(SECOND / 500);
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
fn a_line_of_the_kernels_own_loses_nothing_by_itself() -> Result<()> {
    for family in Family::BOTH {
        let (client, server) = (Netns::new()?, Netns::new()?);
        veth::join(&client, &server, None)?;
        let address = SocketAddr::new(link::server(family), 0);
        let plain = plain::Server::start(&server, address, 2, 1)?;
        let config = Config::closed(plain.addr(), 8, SECOND / 5);
        let report = client.run(|| load::run(&config, &AtomicBool::new(false)))?;
        plain.stop().context("stop the server")?;
        ensure!(report.lost == 0 && report.ok > 20, "{family:?}: {report:?}");
    }
    Ok(())
}

const PACKETS: u32 = 2000;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        twenty_flips_over_a_bad_line_lose_nothing_that_it_does_not_lose_anyway
        netem_delays_loses_and_reorders
        a_line_of_the_kernels_own_loses_nothing_by_itself
    }
}
