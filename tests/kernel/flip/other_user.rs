//! Promise: a server of another user, which the kernel keeps out of the reuseport group, is told
//! what to do, and changes nothing.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Setup,
    product::{Cli, NOBODY, program},
};
use synflip_wire::Event;

use crate::helpers::bare::{Bare, came_to};

#[test]
fn a_generation_of_another_user_is_told_why_it_cannot_join() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let mut old = Bare::start(&fixture, 1, 2)?;
        old.is_told(Event::Working)?;
        let before = fixture.agent.service()?;
        let socket = fixture.agent.socket();
        fixture.agent.admit_everybody()?;
        let address = fixture.net.address.to_string();
        let mut other = Command::new(program("synflip-server")?);
        other
            .args(["--require-agent", "--listen", &address, "--socket"])
            .arg(&socket)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let other = Cli::from(fixture.net.server.spawn(&mut other)?.wait_with_output()?);
        ensure!(other.code == 1, "{other:?}");
        for words in [&address, "another user", "run all generations as one"] {
            ensure!(other.stderr.contains(words), "no {words:?} in {other:?}");
        }
        let after = fixture.agent.service()?;
        ensure!(after == before, "{after:#?}");
        let came = came_to(&fixture, &[&old])?;
        ensure!(came.iter().all(|count| *count > 0), "not steered: {came:?}");
        Ok(())
    })
}
