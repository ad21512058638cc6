//! A25: an old server that closes its descriptors silently, or stops accepting, while its control
//! connection lives is never taken over.

use anyhow::{Result, ensure};
use synflip_bed::{
    Fixture,
    network::answered,
    wait::{MS, SECOND},
};

use crate::{
    black_box::Operate as _,
    peer::{Peer, listen},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a25_an_old_server_that_closes_silently_while_its_connection_lives() -> Result<()> {
    hazard("A25", || {
        let fixture = Fixture::new()?;
        let listeners = listen(&fixture.net, fixture.net.address, 2, 128)?;
        let mut old = Peer::connect(&fixture.agent)?;
        old.join("web", "gen1", &listeners)?;
        fixture.agent.wait_works("gen1")?;
        let queued = fixture.net.clients(CLIENTS)?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        let flip = fixture
            .agent
            .tried(&["flip", "--to", "gen2", "--no-wait"])?;
        ensure!(flip.code == 0, "{flip:?}");
        drop(listeners);
        let mut stalled = 0;
        for client in queued {
            client.set_read_timeout(Some(if stalled == 0 { 4 * SECOND } else { 100 * MS }))?;
            stalled += usize::from(answered(client).is_err());
        }
        drop(old);
        safe_if!(
            stalled == 0,
            "gen1 has closed its listeners, gen2 accepts: {stalled} of {CLIENTS} queued clients \
             stall"
        );
        Ok(Verdict::Safe)
    })
}

const CLIENTS: usize = 8;
