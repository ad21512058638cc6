//! Promise: `synflip doctor` says what this kernel and this user can do.

use anyhow::{Context as _, Result, ensure};
use rustix::system::uname;
use synflip_bed::{Fixture, product::Cli};

use super::document;

#[test]
fn doctor_says_what_is_there_and_what_is_missing() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.net.server;
    let doctor = host.run(|| fixture.agent.cli(&["doctor", "--json"]))?;
    ensure!(doctor.code == 0 && doctor.stderr.is_empty(), "{doctor:?}");
    let report = document(&doctor)?;
    let uname = uname();
    let release = uname.release().to_string_lossy();
    ensure!(report["kernel"] == *release, "{report}");
    let checks = report["checks"].as_array().context("checks")?;
    ensure!(checks.len() >= 6, "{report}");
    for check in checks {
        let verdict = check["verdict"].as_str().context("a verdict")?;
        ensure!(["ok", "limited"].contains(&verdict), "{check}");
        ensure!(
            check["what"].is_string() && check["found"].is_string(),
            "{check}"
        );
    }
    // No kernel under test lacks what it takes.
    let looks = checks.iter().find(|check| check["what"] == "cheap looks");
    ensure!(
        looks.is_some_and(|looks| looks["verdict"] == "ok"),
        "{report}"
    );
    let plain = host.run(|| fixture.agent.cli(&["doctor"]))?;
    ensure!(
        plain.code == 0 && plain.stdout.contains(&*release),
        "{plain:?}"
    );
    ensure!(!plain.stdout.contains("MISSING"), "{plain:?}");

    let missing = Cli::of_nobody(&mut fixture.agent.command(&["doctor", "--json"])?)?;
    ensure!(
        missing.code == 1 && missing.stderr.contains("cannot run here"),
        "{missing:?}"
    );
    let report = document(&missing)?;
    let checks = report["checks"].as_array().context("checks")?;
    let missing: Vec<_> = checks
        .iter()
        .filter(|check| check["verdict"] == "missing")
        .collect();
    ensure!(
        missing.iter().any(|check| check["what"] == "CAP_BPF"),
        "{report}"
    );
    Ok(())
}
