//! `cargo xtask run`: the demonstration.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{need_root, release_binaries};

// `--help` goes to the program too: only it knows its options.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the run; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let vm = |arg: &OsString| arg == "--vm" || arg.as_encoded_bytes().starts_with(b"--vm=");
    if args.args.iter().any(vm) {
        eprintln!("error: --vm: virtual machines are not supported yet; run without it, here");
        return Ok(ExitCode::from(2));
    }
    exec("synflip-run", &args.args)
}

/// Builds the programs and becomes one of them.
pub(crate) fn exec(program: &str, args: &[OsString]) -> Result<ExitCode> {
    let help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if !help {
        need_root(program)?;
    }
    let dir = release_binaries()?;
    let path = dir.join(program);
    ensure!(
        path.exists(),
        "{} was not built: package synflip-tests has no binary {program}",
        path.display()
    );
    // Only returns if it fails.
    let error = Command::new(&path)
        .args(args)
        .env("SYNFLIP_BIN_DIR", &dir)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", path.display()))
}
