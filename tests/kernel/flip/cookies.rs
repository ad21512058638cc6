//! Promise: nothing is lost on a flip of what the kernel keeps no request for. A SYN cookie holds
//! no listener: its connection belongs to whoever works when the ACK comes, and every generation
//! of the group can check it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use synflip_bed::{Family, Line, Setup, network::complete, wait::SOON};
use synflip_wire::Phase;

#[test]
fn a_cookie_is_good_for_the_next_generation() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new()
            .family(family)
            .line(Line::Raw)
            .sysctl("net.ipv4.tcp_syncookies", "2")
            .start()?;
        let old = fixture.start_working(&fixture.spec(1, 3))?;
        let mut held = fixture.net.half_open(COOKIES)?;
        let pending = fixture.pending("gen1")?;
        ensure!(pending == (0, 0), "a request was kept: no cookies");
        let new = fixture.generation(2, &[])?;
        fixture.agent.flip("gen2")?;
        // Gone altogether, before the handshakes go on.
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.accepted == 0, "{exit:?}");
        fixture.wait_gone("gen1")?;
        for half_open in &mut held {
            let by = complete(half_open)?;
            ensure!(by == 2, "served by generation {by}");
        }
        // Each SYN and each ACK of a cookie runs the program.
        fixture.check_steered(2 * COOKIES)?;
        let exit = new.stop()?;
        ensure!(exit.served == COOKIES, "{exit:?}");
        Ok(())
    })
}

/// A handshake that found the queue of handshakes full was answered with a cookie, and belongs to
/// nobody; the others belong to the generation that they came to.
#[test]
fn requests_and_cookies_of_one_rush_are_all_served() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new()
            .family(family)
            .line(Line::Raw)
            .sysctl("net.ipv4.tcp_syncookies", "1")
            .start()?;
        let old = fixture.start_working(&fixture.spec(1, 1).arg("--backlog=4"))?;
        let _new = fixture.start(&fixture.spec(2, 1))?;
        let mut rush = fixture.net.half_open(RUSH)?;
        let (_, requests) = fixture.pending("gen1")?;
        let some = (1..RUSH).contains(&requests);
        ensure!(some, "{requests} requests of {RUSH}");
        let mut flip = fixture.agent.begin_flip("gen2")?;
        fixture.wait_phase("gen1", Phase::Draining)?;
        flip.still_runs()?;
        let mut by = BTreeMap::new();
        for half_open in &mut rush {
            *by.entry(complete(half_open)?).or_insert(0) += 1;
        }
        let expected = BTreeMap::from([(1, requests), (2, RUSH - requests)]);
        ensure!(by == expected, "{by:?}, not {expected:?}");
        flip.drained()?;
        let exit = old.wait_exit(SOON)?;
        ensure!(exit.served == requests, "not all were served: {exit:?}");
        fixture.check_steered(RUSH)
    })
}

const COOKIES: u64 = 16;
const RUSH: u64 = 24;
