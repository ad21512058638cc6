//! Promise: the mode of the socket lets a user in, the owner of a service changes it.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::product::{Cli, NOBODY, program};

use super::victim::Victim;

#[test]
fn a_user_outside_the_group_is_kept_out() -> Result<()> {
    let victim = Victim::new()?;
    open_directory(&victim)?;
    let mode = fs::metadata(victim.fixture.agent.socket())?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o660, "the socket's mode is {mode:o}");
    for args in [
        &["status"][..],
        &["flip", "--to", "gen1"],
        &["status", "--json"],
    ] {
        let cli = Cli::of_nobody(&mut victim.fixture.agent.command(args)?)?;
        ensure!(cli.code == 3 && cli.stdout.is_empty(), "{cli:?}");
        let cure = "this user may not use";
        let group = "run as root, or join the group of that socket";
        ensure!(
            cli.stderr.contains(cure) && cli.stderr.contains(group),
            "{cli:?}"
        );
    }
    // The group is enough.
    chown(victim.fixture.agent.socket(), None, Some(NOBODY))?;
    let cli = Cli::of_nobody(&mut victim.fixture.agent.command(&["status"])?)?;
    ensure!(cli.code == 0 && cli.stdout.contains("gen1"), "{cli:?}");
    victim.check_unharmed()
}

#[test]
fn another_user_may_look_and_not_touch() -> Result<()> {
    let victim = Victim::new()?;
    open_directory(&victim)?;
    let socket = victim.fixture.agent.socket();
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let cli = Cli::of_nobody(&mut victim.fixture.agent.command(&["status", "--json"])?)?;
    ensure!(cli.code == 0, "{cli:?}");
    let changes = [
        &["flip", "--to", "latest"][..],
        &["rollback"],
        &["retire", "--generation", "gen1", "--force"],
    ];
    let refusal = "service web belongs to uid 0; uid 65534 may not change it";
    for args in changes {
        let cli = Cli::of_nobody(&mut victim.fixture.agent.command(args)?)?;
        ensure!(cli.code == 1 && cli.stderr.contains(refusal), "{cli:?}");
    }
    // A listener among those of the service would get a share of its connections.
    let mut intruder = Command::new(program("synflip-server")?);
    intruder.args([
        "--require-agent",
        "--service",
        "web",
        "--generation",
        "gen1",
    ]);
    intruder
        .args(["--listen", "127.0.0.1:4100", "--socket"])
        .arg(&socket);
    intruder
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    intruder.uid(NOBODY).gid(NOBODY);
    let ended = victim
        .fixture
        .net
        .server
        .spawn(&mut intruder)?
        .wait_with_output()?;
    let ended = Cli::from(ended);
    ensure!(
        ended.code != 0 && ended.stderr.contains(refusal),
        "{ended:?}"
    );
    victim.check_unharmed()
}

/// Lets everybody reach the socket's directory: what keeps them out is then the socket.
fn open_directory(victim: &Victim) -> Result<()> {
    let socket = victim.fixture.agent.socket();
    let dir = socket.parent().context("a directory")?;
    Ok(fs::set_permissions(dir, Permissions::from_mode(0o755))?)
}
