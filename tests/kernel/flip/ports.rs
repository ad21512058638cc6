//! Promise: a service with several ports is flipped as one.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Line, Setup, link,
    network::complete,
    product::{Operator, Spec},
    raw::{self, Reply},
    wait::SOON,
};

use crate::helpers::restarts::Restarts;

#[test]
fn several_ports_lose_nothing() -> Result<()> {
    for family in Family::BOTH {
        let ports: Vec<SocketAddr> = PORTS.map(|port| (link::server(family), port).into()).into();
        let restarting = Restarts {
            listen: ports.clone(),
            connect: ports,
            ..Restarts::new(family, 12)
        };
        let endpoints = restarting.steered()?.service.endpoints;
        ensure!(endpoints.len() == PORTS.len(), "{endpoints:?}");
        for endpoint in &endpoints {
            ensure!(endpoint.selected > 0, "{endpoint:?}");
        }
        let plain = restarting.plain(5)?;
        ensure!(plain.lost > 0, "{plain:?}");
    }
    Ok(())
}

#[test]
fn after_a_commit_all_ports_are_the_new_generations() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).line(Line::Raw).start()?;
        let ports: Vec<SocketAddr> = PORTS.map(|port| (raw::server(family), port).into()).into();
        let spec = |number, listeners| Spec {
            listen: ports.clone(),
            ..fixture.spec(number, listeners)
        };
        let _old = fixture.start_working(&spec(1, 3))?;
        let _new = fixture.start(&spec(2, 2))?;
        let mut operator = Operator::new(&fixture.agent)?;
        for number in [2, 1, 2, 1, 2, 1] {
            operator.flip(&format!("gen{number}"), true, Duration::ZERO)?;
            // Both go on accepting. One look at each port first: the moment is what counts.
            for round in 0..8 {
                for to in &ports {
                    let mut new = fixture.net.raw()?.syn(fixture.net.fresh(), *to)?;
                    let reply = new.recv_syn_ack(SOON)?;
                    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
                    let by = complete(&mut new)?;
                    ensure!(by == number, "{to}, look {round}: answered by {by}");
                }
            }
        }
        fixture.agent.check_counters()?;
        for endpoint in operator.service()?.endpoints {
            ensure!(endpoint.selected >= 6 * 8, "{endpoint:?}");
        }
        Ok(())
    })
}

const PORTS: [u16; 4] = [8081, 8082, 8083, 8084];
