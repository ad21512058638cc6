//! The programs of `tests/` that have options of their own: the demonstration, the measurements,
//! the soak.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binaries::Binaries,
    cargo::{is_root, need_root},
    options::take,
    vm::{self, Kernels},
};

/// A program that runs here or in a virtual machine.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// How long it may take in a machine, with these arguments.
    pub(crate) deadline_s: fn(&[String], &Kernels) -> Result<u64>,
    /// Options that it gets in a virtual machine, where they were not given: a name and a value.
    pub(crate) vm_defaults: &'static [(&'static str, &'static str)],
    /// What is shown of its JSON where it runs in several machines: a name, and where it is.
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

// `--help` goes to the program too: only it knows its options.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the program; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Program {
    /// Runs it in the machines that `--vm` names; without, here if it can.
    pub(crate) fn run(&self, args: &Args) -> Result<ExitCode> {
        let (kernels, rest) = take(&args.args, "--vm")?;
        let kernels = kernels.iter().flat_map(|names| names.split(','));
        let kernels: Vec<String> = kernels.map(str::to_owned).collect();
        if !kernels.is_empty() {
            return vm::run_in(&kernels, self, &rest);
        }
        match why_not_here(&rest)? {
            None => exec(self.name, &rest),
            Some(why) => {
                eprintln!(
                    "not on this machine: {why}\nrunning in a virtual one, Linux {ELSEWHERE}"
                );
                vm::run_in(&[ELSEWHERE.to_owned()], self, &rest)
            }
        }
    }
}

/// Why this user or this kernel cannot run it, if so.
fn why_not_here(args: &[String]) -> Result<Option<String>> {
    if asks_for_help(args) {
        return Ok(None);
    }
    if !is_root() {
        return Ok(Some("it needs root".to_owned()));
    }
    let doctor = Command::new(Binaries::build(&[])?.dir()?.join("synflip"))
        .arg("doctor")
        .output()
        .context("cannot start synflip doctor")?;
    let said = String::from_utf8_lossy(&doctor.stdout).trim().to_owned();
    Ok((!doctor.status.success()).then_some(said))
}

/// Builds the programs and becomes one of them.
pub(crate) fn exec(program: &str, args: &[impl AsRef<OsStr>]) -> Result<ExitCode> {
    if !asks_for_help(args) {
        need_root(program)?;
    }
    let binaries = Binaries::build(&[])?;
    let dir = binaries.dir()?;
    let path = dir.join(program);
    ensure!(
        path.exists(),
        "{} was not built: no package has a binary {program}",
        path.display()
    );
    // Only returns if it fails.
    let error = Command::new(&path)
        .args(args)
        .env("SYNFLIP_BIN_DIR", dir)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", path.display()))
}

fn asks_for_help(args: &[impl AsRef<OsStr>]) -> bool {
    let mut args = args.iter().map(AsRef::as_ref);
    args.any(|arg| arg == "--help" || arg == "-h")
}

/// Where to run what this machine cannot: a kernel that Debian supports for long.
const ELSEWHERE: &str = "6.12";
