//! The programs of `tests/` that have options of their own: the demonstration, the measurements,
//! the soak.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binaries::Binaries,
    cargo::{is_root, need_root},
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
    args: Vec<OsString>,
}

impl Program {
    /// Runs it in the machines that `--vm` names; without, here if it can.
    pub(crate) fn run(&self, args: &Args) -> Result<ExitCode> {
        let (kernels, rest) = split_vm(&args.args)?;
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
fn why_not_here(args: &[OsString]) -> Result<Option<String>> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
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

/// The kernels that `--vm` names, and the other arguments, which are the program's.
fn split_vm(args: &[OsString]) -> Result<(Vec<String>, Vec<OsString>)> {
    let (mut kernels, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let named = match arg.to_str().and_then(|arg| arg.strip_prefix("--vm")) {
            Some("") => {
                let next = args.next().and_then(|next| next.to_str());
                next.context("--vm needs the name of a kernel, or all")?
            }
            Some(named) if named.starts_with('=') => &named[1..],
            _ => {
                rest.push(arg.clone());
                continue;
            }
        };
        kernels.extend(named.split(',').map(str::to_owned));
    }
    Ok((kernels, rest))
}

/// Builds the programs and becomes one of them.
pub(crate) fn exec(program: &str, args: &[OsString]) -> Result<ExitCode> {
    let help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if !help {
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

/// Where to run what this machine cannot: a kernel that Debian supports for long.
const ELSEWHERE: &str = "6.12";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_are_told_from_what_is_the_programs() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        let given = args(&["--flips", "3", "--vm", "5.10,7", "--vm=6.1", "--vmx"]);
        let (kernels, rest) = split_vm(&given).unwrap();
        assert_eq!(kernels, ["5.10", "7", "6.1"]);
        assert_eq!(rest, args(&["--flips", "3", "--vmx"]));
        assert!(split_vm(&args(&["--vm"])).is_err());
    }
}
