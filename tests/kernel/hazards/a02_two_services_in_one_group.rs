//! A2: two services in one reuseport group: the second one takes the first one's connections.

use std::os::fd::AsFd as _;

use anyhow::Result;
use synflip_bed::Fixture;

use crate::{
    black_box::{PATIENCE, ask, first},
    peer::{Peer, listen, register},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a02_the_second_service_takes_the_group() -> Result<()> {
    hazard("A2", || {
        let fixture = Fixture::new()?;
        let _web = first(&fixture, &[])?;

        // It registers and is not ready yet.
        let opened = listen(&fixture.net, fixture.net.address, 2, 100)?;
        let fds: Vec<_> = opened.iter().map(|listener| listener.as_fd()).collect();
        let mut peer = Peer::connect(&fixture.agent)?;
        let answer = peer.tried(&register("other", "gen9", &opened)?, &fds)?;
        let unready = ask(&fixture.net, 20, PATIENCE)?;
        drop((peer, opened));

        // It starts all the same, steered or not.
        let mut other = fixture.spec(2, 2).args(&["--service", "other"]);
        other.without_agent = true;
        let _other = fixture.start(&other)?;
        let ready = ask(&fixture.net, 20, PATIENCE)?;

        safe_if!(
            unready.from(1) == 20 && ready.from(1) == 20,
            "{} registers on web's address: of 20 clients of web {} hang while it is not ready, \
             and of 20 it gets {} when it is, {} hang",
            "other",
            20 - unready.from(1),
            ready.from(2),
            ready.hung
        );
        let refusal = answer["text"].as_str().unwrap_or_default();
        safe_if!(
            answer["reply"] == "refused" && refusal.contains("web"),
            "other registers on web's address, and nothing warns: {answer}"
        );
        Ok(Verdict::Safe)
    })
}
