//! Promise: scripts read one JSON document on stdout, and errors on stderr.

use std::{io, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use synflip_bed::{Fixture, product::Cli, wait::SOON};
use synflip_wire::Phase;

use super::document;

#[test]
fn json_is_one_document_and_errors_go_to_stderr() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let second = fixture.generation(2, &[])?;
    let done = |args: &[&str]| -> Result<Value> {
        let cli = fixture.agent.cli(args)?;
        ensure!(cli.code == 0 && cli.stderr.is_empty(), "{args:?}: {cli:?}");
        document(&cli).with_context(|| format!("{args:?}"))
    };
    let status = done(&["status", "--json"])?;
    ensure!(status["services"][0]["working"] == "gen1", "{status}");
    ensure!(
        done(&["status", "web", "--json"])? == status,
        "another status"
    );
    let flip = done(&["flip", "--to", "gen2", "--keep", "--json"])?;
    ensure!(
        flip["flip"]["epoch"] == 2 && flip["drain"]["end"] == "standby",
        "{flip}"
    );
    let back = done(&["rollback", "--no-wait", "--keep", "--json"])?;
    ensure!(
        back["flip"]["to"] == "gen1" && back["drain"].is_null(),
        "{back}"
    );
    fixture.wait_phase("gen2", Phase::Standby)?;
    let retired = done(&["retire", "--generation", "gen2", "--json"])?;
    ensure!(retired["retired"] == "gen2", "{retired}");
    second.wait_exit(SOON)?;
    for refused in [
        &["flip", "--to", "gen7", "--json"][..],
        &["status", "mail", "--json"],
    ] {
        let cli = fixture.agent.cli(refused)?;
        ensure!(
            cli.code == 1 && cli.stdout.is_empty(),
            "{refused:?}: {cli:?}"
        );
        ensure!(
            cli.stderr.starts_with("synflip: ") && cli.stderr.lines().count() == 1,
            "{cli:?}"
        );
    }
    Ok(())
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let status = [
        &["status"][..],
        &["status", "--json"],
        &["status", "--timeline"],
    ];
    let others = [
        &["completions", "bash"][..],
        &["flip", "--help"],
        &["status", "--watch"],
    ];
    for args in status.into_iter().chain(others) {
        let (reader, writer) = io::pipe()?;
        drop(reader);
        let mut command = fixture.agent.command(args)?;
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn()?;
        // The command still holds the writing end.
        drop(command);
        let cli = Cli::from(child.wait_with_output()?);
        ensure!(cli.code == 0 && cli.stderr.is_empty(), "{args:?}: {cli:?}");
    }
    Ok(())
}
