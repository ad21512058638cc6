//! What people run, as they run it: the demonstration and the soak lose nothing, and say so.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use synflip_bed::{
    note,
    product::{Cli, program},
};

#[test]
fn the_demonstration_loses_nothing_and_its_baseline_does() -> Result<()> {
    let run = measured(
        "synflip-run",
        &["--flips", "5", "--seconds", "5", "--baseline", "plain"],
    )?;
    ensure!(number(&run, "/flips")? == 5, "{run:#}");
    ensure!(number(&run, "/connections/lost")? == 0, "{run:#}");
    ensure!(number(&run, "/connections/ok")? > 1000, "{run:#}");
    ensure!(number(&run, "/baseline/connections/lost")? > 0, "{run:#}");
    Ok(())
}

#[test]
fn killed_servers_lose_what_they_had_accepted_and_nothing_else() -> Result<()> {
    let hard = ["--kill-old", "--rtt", "20ms", "--loss", "1%"];
    let run = measured(
        "synflip-run",
        &[&hard[..], &["--flips", "6", "--seconds", "8"]].concat(),
    )?;
    ensure!(number(&run, "/connections/lost")? == 0, "{run:#}");
    let kills = run["kills"].as_array().context("no kills")?;
    ensure!(kills.len() >= 6, "{run:#}");
    let died: u64 = kills
        .iter()
        .filter_map(|kill| kill["died_in_service"].as_u64())
        .sum();
    ensure!(
        number(&run, "/connections/died_in_service")? == died,
        "{run:#}"
    );
    Ok(())
}

#[test]
fn faults_of_every_kind_lose_nothing() -> Result<()> {
    let run = measured("synflip-soak", &["--minutes", "0.3", "--seed", "7"])?;
    ensure!(number(&run, "/connections/lost")? == 0, "{run:#}");
    ensure!(number(&run, "/faults/total")? > 13, "{run:#}");
    let fds = |when: &str| number(&run, &format!("/agent/{when}/fds"));
    ensure!(fds("before")? == fds("after")?, "{run:#}");
    Ok(())
}

/// Runs a program to its good end: the document that it writes.
fn measured(name: &str, args: &[&str]) -> Result<Value> {
    let dir = tempfile::tempdir().context("create a directory")?;
    let file = dir.path().join("result.json");
    let mut command = Command::new(program(name)?);
    command.args(args).arg("--json").arg(&file);
    let cli = Cli::from(command.output().with_context(|| format!("run {name}"))?);
    note(cli.stdout.lines().last().unwrap_or_default());
    ensure!(cli.code == 0, "{name} {args:?}: {cli:?}");
    let text = std::fs::read_to_string(&file).context("read the document")?;
    serde_json::from_str(&text).context("understand the document")
}

fn number(document: &Value, at: &str) -> Result<u64> {
    let value = document.pointer(at).and_then(Value::as_u64);
    value.with_context(|| format!("no number at {at}: {document:#}"))
}
