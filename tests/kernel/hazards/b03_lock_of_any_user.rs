//! B3: any local user can keep the agent from coming back.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use synflip_bed::{
    Fixture,
    product::NOBODY,
    wait::{self, MS},
};

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b03_any_local_user_keeps_it_from_restarting() -> Result<()> {
    hazard("B3", || {
        let mut fixture = Fixture::new()?;
        let socket = fixture.agent.socket();
        let dir = socket.parent().context("a socket is in a directory")?;
        // As /run/synflip is.
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        let locks = fs::read_dir(dir)?.filter_map(|entry| {
            let path = entry.ok()?.path();
            path.to_string_lossy().ends_with(".lock").then_some(path)
        });
        // Without a lock that others can open there is nothing to show.
        for lock in locks {
            let mut thief = Command::new("flock")
                .arg(&lock)
                .args(["sleep", "60"])
                .uid(NOBODY)
                .gid(NOBODY)
                .process_group(0)
                .stderr(Stdio::null())
                .spawn()
                .context("start flock(1)")?;
            // It waits for the agent's own lock, or has been refused.
            wait::pause(300 * MS);
            fixture.agent.kill(Signal::KILL)?;
            wait::pause(300 * MS);
            let back = fixture.restart_agent();
            kill_process_group(Pid::from_child(&thief), Signal::KILL)?;
            drop(thief.wait());
            safe_if!(
                back.is_ok(),
                "nobody has locked {}, and the agent does not start: {:#}",
                lock.display(),
                last_line(back)
            );
        }
        let status = fixture.agent.tried(&["status"])?;
        anyhow::ensure!(status.code == 0, "{status:?}");
        Ok(Verdict::Safe)
    })
}

/// What the agent has said last.
fn last_line(result: Result<()>) -> String {
    let text = result
        .err()
        .map_or_else(String::new, |error| format!("{error:#}"));
    text.lines().last().unwrap_or_default().to_owned()
}
