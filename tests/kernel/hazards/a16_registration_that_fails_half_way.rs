//! A16: a server comes back, and its registration fails half way: its listeners are taken for
//! served, and it can never register them again.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use synflip_bed::{
    Setup,
    wait::{self, SECOND},
};

use crate::{
    black_box::{Operate as _, second_port},
    peer::{Peer, listen, register},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a16_a_registration_that_fails_half_way() -> Result<()> {
    hazard("A16", || {
        let fixture = Setup::new().agent_args(&["--hold", "30"]).start()?;
        let known = listen(&fixture.net, fixture.net.address, 2, 128)?;
        let mut server = Peer::connect(&fixture.agent)?;
        server.join("web", "gen1", &known)?;
        fixture.agent.wait_works("gen1")?;
        drop(server);
        fixture.agent.wait_until("its process is gone", |service| {
            service["generations"][0]["pids"]
                .as_array()
                .is_some_and(Vec::is_empty)
        })?;

        // It comes back with its listeners and one that cannot be registered: it is another
        // service's.
        let taken = listen(&fixture.net, second_port(&fixture.net), 1, 128)?;
        let mut owner = Peer::connect(&fixture.agent)?;
        owner.join("other", "gen1", &taken)?;
        let mut all = known;
        all.extend(taken);
        let mut server = Peer::connect(&fixture.agent)?;
        let request = register("web", "gen1", &all)?;
        let fds: Vec<_> = all.iter().map(|listener| listener.as_fd()).collect();
        let answer = server.tried(&request, &fds)?;
        ensure!(answer["reply"] == "refused", "{answer}");
        drop(server);
        // From now on without it.
        let _taken = all.pop();
        let mut last = None;
        let again = wait::until("it registers again", 2 * SECOND, || {
            let joined = Peer::connect(&fixture.agent)
                .and_then(|mut server| server.join("web", "gen1", &all));
            last = joined.err();
            last.is_none()
        });
        safe_if!(
            again.is_ok(),
            "after a registration that was refused, its listeners are refused for good: {:#}",
            last.unwrap_or_else(|| anyhow::anyhow!("no reason"))
        );
        Ok(Verdict::Safe)
    })
}
