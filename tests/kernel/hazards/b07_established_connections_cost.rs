//! B7: a look at the queues reads the established connections of the host too.

use std::{
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family, Setup,
    product::{Agent, Spec},
    wait::SOON,
};

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b07_a_look_at_the_queues_walks_the_established_table() -> Result<()> {
    hazard("B7", || {
        let fixture = Setup::new().family(Family::V6).start()?;
        let _first = first(&fixture, &[])?;
        // The first ones are for what is made once.
        looks(&fixture.agent)?;
        let without = looks(&fixture.agent)?;
        // Of the other IP version: the kernel passes over each of them, and prints none.
        let other = (Ipv4Addr::LOCALHOST, 4000).into();
        let _other = fixture.net.plain(&Spec::new(0, other, 1))?;
        let connect = |_| TcpStream::connect_timeout(&other, SOON).context("connect");
        let idle: Result<Vec<_>> = fixture
            .net
            .client
            .run(|| (0..CONNECTIONS).map(connect).collect());
        let idle = idle?;
        let with = looks(&fixture.agent)?;
        ensure!(idle.len() == CONNECTIONS);
        let more = with.saturating_sub(without) / LOOKS;
        safe_if!(
            more < NOTHING,
            "a look at a status costs the agent {} µs more beside {CONNECTIONS} idle connections \
             of somebody else",
            more.as_micros()
        );
        Ok(Verdict::Safe)
    })
}

/// What some looks at a status cost the agent.
fn looks(agent: &Agent) -> Result<Duration> {
    let before = agent.processor_time()?;
    for _ in 0..LOOKS {
        agent.look()?;
    }
    Ok(agent.processor_time()? - before)
}

/// A walk over so many connections takes several times as long.
const NOTHING: Duration = Duration::from_micros(150);
const LOOKS: u32 = 50;
const CONNECTIONS: usize = 15_000;
