//! C4: the socket is root's alone after each start of the agent.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use synflip_bed::Fixture;

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c04_a_server_of_another_user_runs_unsteered() -> Result<()> {
    hazard("C4", || {
        let mut fixture = Fixture::new()?;
        let socket = fixture.agent.socket();
        let dir = socket.parent().context("a socket is in a directory")?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        chown(&socket, None, Some(USER)).context("give the socket to a group")?;
        let help = fixture.agent.tried(&["agent", "--help"])?;
        let group = USER.to_string();
        let args: &[&str] = match help.stdout.contains("--group") {
            true => &["--group", &group],
            false => &[],
        };
        fixture.agent.restart_with(&fixture.net.server, args)?;
        let stat = fs::metadata(&socket)?;
        let mut spec = fixture.spec(1, 2).uid(USER);
        spec.without_agent = true;
        let _server = fixture.start(&spec)?;
        let status = fixture.agent.told(&["status", "--json"])?;
        let services = status["services"].as_array().map_or(0, Vec::<Value>::len);
        safe_if!(
            services == 1,
            "the socket was given to gid {USER}, and after a restart it is {}:{} {:o} again (no \
             --group): a server of uid {USER} runs unsteered, and is ready all the same",
            stat.uid(),
            stat.gid(),
            stat.mode() & 0o777
        );
        Ok(Verdict::Safe)
    })
}

const USER: u32 = 1000;
