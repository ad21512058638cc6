//! B6: who may talk to the agent sees every service's processes.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use synflip_bed::{
    Fixture,
    product::{NOBODY, program},
};

use crate::{
    black_box::first,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b06_status_shows_every_services_pids_to_everyone() -> Result<()> {
    hazard("B6", || {
        let fixture = Fixture::new()?;
        let server = first(&fixture, &[])?;
        let socket = fixture.agent.socket();
        let dir = socket.parent().context("a socket is in a directory")?;
        fixture.agent.admit_everybody()?;
        // Where another user may execute it.
        let synflip = dir.join("synflip");
        fs::copy(program("synflip")?, &synflip).context("copy the program")?;
        let status = Command::new(&synflip)
            .args(["status", "--json"])
            .env("SYNFLIP_SOCKET", &socket)
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .context("run synflip as nobody")?;
        // A refusal is one way to mend it.
        if status.status.success() {
            let text = String::from_utf8(status.stdout)?;
            let shown: Value = serde_json::from_str(&text)?;
            let pids = &shown["services"][0]["generations"][0]["pids"];
            let seen = pids.as_array().is_some_and(|pids| !pids.is_empty());
            ensure!(
                !seen || *pids == serde_json::json!([server.pid()]),
                "{shown:#}"
            );
            safe_if!(
                !seen,
                "nobody is shown the processes of root's service: {pids}"
            );
        }
        Ok(Verdict::Safe)
    })
}
