//! A25: an old server that closes its descriptors silently, or stops accepting, while its control
//! connection lives is never taken over.

use anyhow::{Result, ensure};
use synflip_bed::{Fixture, wait::SECOND};

use crate::{
    black_box::{Operate as _, await_all, first},
    peer::{Peer, listen},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a25a_an_old_server_that_closes_silently_while_its_connection_lives() -> Result<()> {
    hazard("A25a", || {
        let fixture = Fixture::new()?;
        let listeners = listen(&fixture.net, fixture.net.address, 2, 128)?;
        let mut old = Peer::connect(&fixture.agent)?;
        old.join("web", "gen1", &listeners)?;
        fixture.agent.wait_works("gen1")?;
        let verdict = replaced(&fixture, "gen1 has closed its listeners", || {
            drop(listeners);
        });
        drop(old);
        verdict
    })
}

#[test]
fn a25b_an_old_server_that_stops_accepting() -> Result<()> {
    hazard("A25b", || {
        let fixture = Fixture::new()?;
        let _old = first(&fixture, &["--stop-accepting"])?;
        replaced(&fixture, "gen1 accepts nothing", || {})
    })
}

/// What clients get that are queued on gen1 when gen2 takes over, and gen1 does something to its
/// listeners.
fn replaced(fixture: &Fixture, what: &str, act: impl FnOnce()) -> Result<Verdict> {
    let queued = fixture.net.clients(CLIENTS)?;
    let _new = fixture.generation(2, &[])?;
    let flip = ["flip", "--to", "gen2", "--no-wait"];
    let flip = fixture.agent.tried(&flip)?;
    ensure!(flip.code == 0, "{flip:?}");
    act();
    let answers = await_all(queued, 4 * SECOND)?;
    safe_if!(
        answers.lost() == 0,
        "{what}, gen2 accepts: of {CLIENTS} queued clients {} stall and {} are reset",
        answers.hung,
        answers.reset
    );
    Ok(Verdict::Safe)
}

const CLIENTS: usize = 8;
