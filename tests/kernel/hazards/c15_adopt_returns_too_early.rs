//! C15: `adopt`, `adopt`, `flip` in one script is refused.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use synflip_bed::Setup;

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c15_adopt_returns_before_its_publication() -> Result<()> {
    hazard("C15", || {
        let fixture = Setup::new().agent_args(&["--hold", "1"]).start()?;
        for round in 0..ROUNDS {
            let mut spec = fixture.spec(1, 1);
            spec.listen = vec![SocketAddr::new(fixture.net.address.ip(), 5000 + round)];
            let old = fixture.net.plain(&spec)?;
            spec.number = 2;
            let new = fixture.net.plain(&spec)?;
            let service = format!("web{round}");
            let in_service = |args: &[&str]| {
                let args = [args, &["--service", &service]].concat();
                fixture.agent.tried(&args)
            };
            let pids = [old.pid().to_string(), new.pid().to_string()];
            let adopt = ["adopt", "--generation"];
            let adopted = [
                in_service(&[&adopt[..], &["gen1", "--pid", &pids[0]]].concat())?,
                in_service(&[&adopt[..], &["gen2", "--pid", &pids[1]]].concat())?,
            ];
            let flip = in_service(&["flip", "--to", "gen2", "--no-wait"])?;
            ensure!(adopted.iter().all(|cli| cli.code == 0), "{adopted:?}");
            safe_if!(
                flip.code == 0,
                "adopt, adopt, flip in one script is refused at try {}: {}",
                round + 1,
                flip.stderr.trim()
            );
        }
        Ok(Verdict::Safe)
    })
}

/// It takes less than a commit for a flip to come too early, and more often than not it takes more.
const ROUNDS: u16 = 60;
