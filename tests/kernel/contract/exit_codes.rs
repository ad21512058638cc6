//! Promise: every way in which a command ends has an exit code.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use synflip_bed::{Fixture, network::answers, product::Cli, wait::SOON};

use super::document;

#[test]
fn every_way_to_end_has_its_exit_code() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.first(&["--stop-accepting"])?;
    let _second = fixture.generation(2, &[])?;
    let code = |args: &[&str], expected: i32| -> Result<Cli> {
        let cli = fixture.agent.cli(args)?;
        ensure!(
            cli.code == expected,
            "{args:?} ended with {}, not {expected}: {cli:?}",
            cli.code
        );
        Ok(cli)
    };
    code(&["status"], 0)?;
    for refused in [
        &["flip", "--to", "gen7"][..],
        &["rollback"],
        &["status", "mail"],
    ] {
        code(refused, 1)?;
    }
    let usage = [
        &[][..],
        &["flop"],
        &["flip"],
        &["flip", "--to", "a/b"],
        &["flip", "--to", "gen2", "--timeout", "soon"],
        &["retire"],
        &["status", "--json", "--watch"],
        &["completions", "basic"],
    ];
    for args in usage {
        let cli = code(args, 2)?;
        ensure!(
            cli.stdout.is_empty() && cli.stderr.contains("--help"),
            "{args:?}: {cli:?}"
        );
    }
    for args in [
        &["status"][..],
        &["flip", "--to", "gen2"],
        &["rollback"],
        &["status", "--json"],
    ] {
        let elsewhere = [args, &["--socket", "/nowhere/agent.sock"]].concat();
        let cli = code(&elsewhere, 3)?;
        let cure = "no agent at /nowhere/agent.sock";
        ensure!(
            cli.stderr.contains(cure) && cli.stderr.contains("synflip agent"),
            "{cli:?}"
        );
        ensure!(cli.stdout.is_empty(), "{cli:?}");
    }

    // Committed, and the deadline passes: what is left is told and goes on draining.
    let queued = fixture.net.clients(4)?;
    let late = code(&["flip", "--to", "gen2", "--timeout", "1", "--json"], 4)?;
    let late = document(&late)?;
    ensure!(late["flip"]["to"] == "gen2", "{late}");
    ensure!(late["drain"]["end"] == "deadline-passed", "{late}");
    let left = |listener: &Value| listener["steps"][0]["queued"].as_u64();
    let listeners = late["drain"]["listeners"].as_array().context("listeners")?;
    ensure!(
        listeners.iter().map(left).sum::<Option<u64>>() == Some(4),
        "{late}"
    );
    first.signal(Signal::USR1)?;
    ensure!(answers(queued)? == [1; 4], "other answers");
    first.wait_exit(SOON)?;
    Ok(())
}
