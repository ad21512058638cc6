//! Promise: it makes no difference how the service listens: IPv6 only, on both families at once,
//! on several ports, in another network namespace than the agent, with hundreds of listeners; nor
//! how the handshake is done, with SYN cookies or TCP Fast Open.

#[path = "common/background.rs"]
mod background;
#[path = "common/campaign.rs"]
mod campaign;
#[path = "common/fast_open.rs"]
mod fast_open;
#[path = "variants/handshakes.rs"]
mod handshakes;
#[path = "variants/ports.rs"]
mod ports;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/seed.rs"]
mod seed;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use synflip_bed::{Delay, Family, link, note, product::Options};

use campaign::{Campaign, Story};
use seed::with_seed;

fn wildcards_lose_nothing() -> Result<()> {
    let (v4, v6) = (link::server(Family::V4), link::server(Family::V6));
    let both = [(v4, 8080).into(), (v6, 8080).into()];
    for (listen, connect, only_v6) in [
        (&["0.0.0.0:8080"][..], &both[..1], false),
        (&["[::]:8080"], &both, false),
        (&["[::]:8080"], &both[1..], true),
        (&["[::]:8080", "0.0.0.0:8080"], &both, true),
    ] {
        let listen = listen
            .iter()
            .map(|address| Ok(address.parse()?))
            .collect::<Result<_>>()?;
        let server = if only_v6 {
            vec!["--only-v6".into()]
        } else {
            Vec::new()
        };
        let campaign = Campaign {
            listen,
            connect: connect.to_vec(),
            server,
            ..one_ms(v4)
        };
        let story = survives(&campaign)?;
        for endpoint in &story.service.endpoints {
            ensure!(endpoint.selected > 0, "{endpoint:?}");
        }
    }
    Ok(())
}

fn an_agent_in_another_namespace_loses_nothing() -> Result<()> {
    for family in Family::BOTH {
        let agent = Options {
            outside: true,
            ..Options::default()
        };
        survives(&Campaign {
            agent,
            ..one_ms(link::server(family))
        })?;
    }
    Ok(())
}

/// A group begins with room for 128 members and grows; a message carries 128 descriptors.
fn hundreds_of_listeners_lose_nothing() -> Result<()> {
    for family in Family::BOTH {
        let campaign = Campaign {
            listeners: 150..=160,
            flips: 4,
            ..one_ms(link::server(family))
        };
        let story = survives(&campaign)?;
        let listeners = story.service.generations.iter().flat_map(|g| &g.listeners);
        let used = listeners
            .clone()
            .filter(|listener| listener.selected > 0)
            .count();
        note(&format!(
            "{family:?}: {used} of {} listeners used",
            listeners.count()
        ));
    }
    Ok(())
}

fn survives(campaign: &Campaign) -> Result<Story> {
    with_seed(|rng| {
        let story = campaign.steered(rng)?;
        note(&format!(
            "{:?}: {} flips, {} connections, {} lost, {} SYNs sent again",
            campaign.listen, campaign.flips, story.report.ok, story.report.lost, story.syns_again
        ));
        Ok(story)
    })
}

fn one_ms(address: std::net::IpAddr) -> Campaign {
    Campaign::new(
        SocketAddr::new(address, 8080),
        Delay::of(Duration::from_millis(1)),
        8,
    )
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        wildcards_lose_nothing
        an_agent_in_another_namespace_loses_nothing
        hundreds_of_listeners_lose_nothing
    }
}
