//! C6: nobody can wait for a flip again, and a flip to what works is an error.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use synflip_bed::{
    Fixture,
    product::Cli,
    wait::{self, MS, SOON},
};

use crate::{
    black_box::{Operate as _, first, works},
    findings::Findings,
    verdict::hazard,
};

#[test]
fn c06_a_flip_cannot_be_waited_for_again() -> Result<()> {
    hazard("C6", || {
        let fixture = Fixture::new()?;
        let old = first(&fixture, &["--stop-accepting"])?;
        let _queued = fixture.net.clients(2)?;
        let _new = fixture.generation(2, &[])?;
        let mut found = Findings::default();

        let mut flip = fixture.agent.command(&["flip", "--to", "gen2"])?;
        flip.stdout(Stdio::piped()).stderr(Stdio::piped());
        let flip = flip.spawn().context("run synflip")?;
        fixture.agent.wait_works("gen2")?;
        kill_process(Pid::from_child(&flip), Signal::INT).context("press Ctrl-C")?;
        let flip = Cli::from(flip.wait_with_output().context("wait for synflip")?);
        let told = format!("{}{}", flip.stdout, flip.stderr);
        found.unless(
            told.contains("synflip wait"),
            format!(
                "Ctrl-C on a flip that has committed: it says {:?}",
                flip.stderr
            ),
        );

        let wait = ["wait", "--drained", "gen1", "--timeout", "60"];
        let wait = fixture.agent.begin(&wait)?;
        // What it waits for must not be over when it asks.
        wait::pause(300 * MS);
        old.signal(Signal::USR1)?;
        let wait = wait.end(2 * SOON)?;
        found.unless(
            wait.code == 0,
            format!(
                "its drain cannot be waited for again: {}",
                first_line(&wait)
            ),
        );

        let again = fixture.agent.tried(&["flip", "--to", "gen2"])?;
        ensure!(works(&fixture.agent.look()?, "gen2"), "{again:?}");
        found.unless(
            again.code == 0,
            format!(
                "a flip to what works: exit {}, {}",
                again.code,
                first_line(&again)
            ),
        );
        found.verdict()
    })
}

fn first_line(cli: &Cli) -> &str {
    cli.stderr.lines().next().unwrap_or_default()
}
