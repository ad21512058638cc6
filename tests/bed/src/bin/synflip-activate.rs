//! What systemd does between fork and exec: passes descriptors on, as `sd_listen_fds(3)` has it.
//!
//! `synflip-activate PROGRAM ARGS…` reads one message from the socket that is its standard input.
//! The descriptors that came with it are 3 and up in the program, which gets `LISTEN_PID` and
//! `LISTEN_FDS`; whoever sends the message sets `LISTEN_FDNAMES`.

use std::{
    env, io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio, id},
};

use anyhow::{Context as _, Result, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use synflip_bed::close_inherited;

/// The first one that is passed (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

fn main() -> Result<()> {
    // A shell may have left descriptors open that are in the way.
    close_inherited(FIRST.unsigned_abs()).context("close what is inherited")?;
    let mut buffer = [0; 64];
    let received =
        synflip_wire::receive(io::stdin(), &mut buffer).context("receive the descriptors")?;
    ensure!(received.bytes > 0, "whoever starts this sends no message");
    for (expected, fd) in (FIRST..).zip(&received.fds) {
        ensure!(fd.as_raw_fd() == expected, "{fd:?} is not {expected}");
        fcntl_setfd(fd, FdFlags::empty()).context("pass a descriptor on")?;
    }
    let mut args = env::args_os().skip(1);
    let mut command = Command::new(args.next().context("no program")?);
    command.args(args).stdin(Stdio::null());
    if !received.fds.is_empty() {
        command
            .env("LISTEN_PID", id().to_string())
            .env("LISTEN_FDS", received.fds.len().to_string());
    }
    Err(command.exec()).with_context(|| format!("execute {command:?}"))
}
