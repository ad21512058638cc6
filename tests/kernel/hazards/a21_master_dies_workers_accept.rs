//! A21: a process that has forked is adopted and dies; its children go on accepting from the
//! listeners that they share with it.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use synflip_bed::{
    Setup,
    wait::{self, SECOND},
};

use crate::{
    black_box::Operate as _,
    peer::listen,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a21_a_killed_master_with_living_workers() -> Result<()> {
    hazard("A21", || {
        let fixture = Setup::new().agent_args(&["--hold", HOLD]).start()?;
        // The worker is this process, which accepts as long as the test lasts.
        let mut opened = listen(&fixture.net, fixture.net.address, 1, 128)?;
        let listener = Socket::from(opened.pop().context("a listener")?);
        listener.set_nonblocking(false)?;
        let worker = listener.try_clone()?;
        thread::spawn(move || while worker.accept().is_ok() {});
        // The master has the same listener, and accepts nothing.
        listener.set_cloexec(false)?;
        let mut sleep = Command::new("sleep");
        let master = fixture
            .net
            .server
            .spawn(sleep.arg("60").stdin(Stdio::null()));
        listener.set_cloexec(true)?;
        let mut master = master.context("start the master")?;
        let cli = fixture.agent.adopt(master.id(), "gen1", &[])?;
        ensure!(cli.code == 0, "{cli:?}");
        fixture.agent.wait_works("gen1")?;
        master.kill()?;
        master.wait()?;
        wait::pause(HOLD.parse::<u32>()? * SECOND + Duration::from_millis(1500));
        let status = fixture.agent.told(&["status", "--json"])?;
        let services = status["services"].as_array().map_or(0, Vec::len);
        safe_if!(
            services == 1,
            "the service is given up {HOLD} s after its master's death, although a worker accepts"
        );
        Ok(Verdict::Safe)
    })
}

/// In seconds.
const HOLD: &str = "1";
