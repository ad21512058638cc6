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

        let refused = answer["reply"] == "refused";

        let mut spec = fixture.spec(2, 2).args(&["--service", "other"]);
        spec.without_agent = true;
        let _other = match fixture.start(&spec) {
            // It may insist on being steered.
            Err(_) if refused => None,
            started => Some(started?),
        };
        let ready = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            unready.from(1) == 20 && ready.from(1) == 20,
            "another service registers on web's address: of 20 clients {} hang while it is not \
             ready; when it is, it gets {} of 20",
            unready.lost(),
            ready.from(2)
        );
        let refusal = answer["text"].as_str().unwrap_or_default();
        safe_if!(
            refused && refusal.contains("web"),
            "another service registers on web's address, and nothing warns: {answer}"
        );
        Ok(Verdict::Safe)
    })
}
