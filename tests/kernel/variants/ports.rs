//! A service with several ports is flipped as one.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use synflip_bed::{
    Delay, Family, Netns, link, note,
    product::{Agent, Generation, Operator, Spec},
    raw::{self, RawClient, Reply},
    wait,
};

use crate::{campaign::Campaign, scene, seed::with_seed, survives};

fn several_ports_lose_nothing() -> Result<()> {
    for family in Family::BOTH {
        let ports: Vec<SocketAddr> = PORTS.map(|port| (link::server(family), port).into()).into();
        let campaign = Campaign {
            listen: ports.clone(),
            connect: ports,
            ..Campaign::new(
                (link::server(family), 1).into(),
                Delay::of(Duration::from_millis(1)),
                12,
            )
        };
        let story = survives(&campaign)?;
        ensure!(
            story.service.endpoints.len() == PORTS.len(),
            "{:?}",
            story.service
        );
        for endpoint in &story.service.endpoints {
            ensure!(endpoint.selected > 0, "{endpoint:?}");
        }
        let plain = with_seed(|rng| campaign.plain(rng, 5))?;
        note(&format!(
            "{family:?} without steering: {} lost in 5 restarts",
            plain.lost
        ));
        ensure!(plain.lost > 0, "{plain:?}");
    }
    Ok(())
}

fn after_a_commit_all_ports_are_the_new_generations() -> Result<()> {
    for family in Family::BOTH {
        let netns = Netns::new()?;
        let client = RawClient::new(&netns)?;
        let agent = Agent::start(&netns)?;
        let ports: Vec<SocketAddr> = PORTS.map(|port| (raw::server(family), port).into()).into();
        let start = |number, listeners| {
            let spec = Spec {
                listen: ports.clone(),
                ..Spec::new(number, ports[0], listeners)
            };
            Generation::start(&netns, &agent, &spec)
        };
        let _servers = [start(1, 3)?, start(2, 2)?];
        let mut operator = Operator::new(&agent)?;
        wait::until("the first generation works", scene::SOON, || {
            operator
                .service()
                .is_ok_and(|service| service.working.is_some())
        })?;
        let mut host = 1;
        for number in [2, 1, 2, 1, 2, 1] {
            operator.flip(&format!("gen{number}"), true, Duration::ZERO)?;
            // Both go on accepting. One look at each port first: the moment is what counts.
            for round in 0..8 {
                host += 1;
                for to in &ports {
                    let mut new = client.syn(raw::client(family, host, 5000), *to)?;
                    let reply = new.recv_syn_ack(scene::SOON)?;
                    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
                    let by = scene::complete(&mut new)?;
                    ensure!(
                        by == number,
                        "{to}, look {round}: answered by generation {by}"
                    );
                }
            }
        }
        agent.check_counters()?;
        for endpoint in operator.service()?.endpoints {
            ensure!(endpoint.selected >= 6 * 8, "{endpoint:?}");
        }
    }
    Ok(())
}

const PORTS: [u16; 4] = [8081, 8082, 8083, 8084];

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        several_ports_lose_nothing
        after_a_commit_all_ports_are_the_new_generations
    }
}
