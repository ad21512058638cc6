//! C11: a directory that is mistyped becomes a BPF file system, SIGHUP is deadly, and the doctor
//! does not look for an agent.

use std::{fs::File, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};
use synflip_bed::{
    Fixture,
    wait::{self, MS, SOON},
};

use crate::{black_box::Operate as _, findings::Findings, verdict::hazard};

#[test]
fn c11_a_second_agent_and_the_doctor() -> Result<()> {
    hazard("C11", || {
        let fixture = Fixture::new()?;
        let mut found = Findings::default();
        let starts = starts_with_a_typo(&fixture)?;
        found.unless(
            !starts,
            "`agent --bpffs` with a directory that does not exist makes it, mounts a BPF file \
             system there and starts a second agent",
        );

        let bpffs = fixture.agent.bpffs().display().to_string();
        let doctor = |socket: &Path| {
            let mut command = fixture.agent.command(&["doctor", "--bpffs", &bpffs])?;
            let said = command.env("SYNFLIP_SOCKET", socket).output()?;
            ensure!(!said.stdout.is_empty(), "{said:?}");
            Ok(said.stdout)
        };
        let socket = fixture.agent.socket();
        let nobody = doctor(&socket.with_extension("not-there"))?;
        found.unless(
            doctor(&socket)? != nobody,
            "doctor says the same whether an agent answers or not",
        );

        let agent = i32::try_from(fixture.agent.pid())?;
        let agent = Pid::from_raw(agent).context("a process id")?;
        kill_process(agent, Signal::HUP).context("send SIGHUP")?;
        wait::pause(300 * MS);
        let status = fixture.agent.tried(&["status"])?;
        found.unless(
            status.code == 0,
            format!("after SIGHUP: {}", status.stderr.trim()),
        );
        found.verdict()
    })
}

/// Whether an agent starts whose BPF file system is not where it is said to be.
fn starts_with_a_typo(fixture: &Fixture) -> Result<bool> {
    let dir = tempfile::tempdir()?;
    let (typo, socket) = (dir.path().join("typo"), dir.path().join("agent.sock"));
    let mut command = fixture.agent.command(&["agent"])?;
    command
        .arg("--bpffs")
        .arg(&typo)
        .env("SYNFLIP_SOCKET", &socket)
        .stdout(Stdio::null())
        .stderr(File::create(dir.path().join("log"))?);
    let mut second = fixture.net.server.spawn(&mut command)?;
    let mut ended = None;
    let decided = wait::until("the second agent starts or not", SOON, || {
        ended = second.try_wait().ok().flatten();
        ended.is_some() || socket.exists()
    });
    drop(second.kill());
    drop(second.wait());
    // There is no such file system if it was refused.
    unmount(&typo, UnmountFlags::DETACH).unwrap_or_default();
    decided?;
    ensure!(!ended.is_some_and(|ended| ended.success()), "{ended:?}");
    Ok(ended.is_none())
}
