//! C16: `adopt` prints what is not so, and its refusals do not help.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use synflip_bed::Fixture;

use crate::{black_box::Operate as _, findings::Findings, verdict::hazard};

#[test]
fn c16_what_adopt_says() -> Result<()> {
    hazard("C16", || {
        let mut fixture = Fixture::new()?;
        let server = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        let pid = server.pid().to_string();
        let mut found = Findings::default();

        let other = [
            "adopt",
            "--service",
            "other",
            "--generation",
            "gen1",
            "--pid",
            &pid,
        ];
        let other = fixture.agent.tried(&other)?;
        found.unless(
            !other.stderr.contains("resource busy"),
            format!(
                "a second service for the same listeners: {}",
                other.stderr.trim()
            ),
        );

        let listen = || TcpListener::bind("127.0.0.1:4999");
        let listener = fixture.net.server.run(listen).context("listen")?;
        let own = std::process::id().to_string();
        let alone = listener.local_addr()?.to_string();
        let args = ["adopt", "--service", "admin", "--generation", "gen1"];
        let args = [&args[..], &["--pid", &own, "--listen", &alone]].concat();
        let refused = fixture.agent.tried(&args)?;
        ensure!(refused.code != 0, "{refused:?}");
        let cures = ["reuseport", "--reuse-port"];
        found.unless(
            cures.iter().all(|cure| refused.stderr.contains(cure)),
            format!(
                "an operator is told {:?}, and no cure",
                refused.stderr.trim()
            ),
        );

        fixture.restart_agent()?;
        let again = fixture.agent.adopt(server.pid(), "gen7", &[])?;
        let service = fixture.agent.look()?;
        let names = service["generations"].as_array().context("generations")?;
        let is_so = names.iter().any(|generation| generation["name"] == "gen7");
        found.unless(
            again.code != 0 || is_so || !again.stdout.contains("gen7"),
            format!("a process that is back in gen1: {:?}", again.stdout.trim()),
        );
        found.verdict()
    })
}
