//! Where the project is, and how cargo is run in it.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The root of the workspace that this xtask belongs to.
pub(crate) fn root() -> PathBuf {
    // Cargo says at run time where the package is: the checkout may have moved since the build.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Where cargo puts what it builds for the workspace.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata(cargo().arg("--offline"))?;
    let dir = metadata["target_directory"].as_str();
    Ok(dir
        .context("cargo metadata names no target_directory")?
        .into())
}

/// What cargo knows of a workspace.
pub(crate) fn metadata(cargo: &mut Command) -> Result<Value> {
    let out = output(cargo.args(["metadata", "--no-deps", "--format-version=1"]))?;
    serde_json::from_str(&out).context("cargo metadata did not print JSON")
}

/// What cargo has built, by what it says with `--message-format=json-render-diagnostics`: kind,
/// name and file of each program.
pub(crate) fn built(messages: &str) -> Result<Vec<(String, String, PathBuf)>> {
    let mut built = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message).context("cargo printed no JSON")?;
        let target = &message["target"];
        let program = (
            target["kind"][0].as_str(),
            target["name"].as_str(),
            message["executable"].as_str(),
        );
        if let (Some(kind), Some(name), Some(file)) = program {
            built.push((kind.to_owned(), name.to_owned(), file.into()));
        }
    }
    Ok(built)
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(status.success(), "{}: {status}", shown(command));
    Ok(())
}

/// Runs a command and returns what it printed; its errors go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(out.status.success(), "{}: {}", shown(command), out.status);
    text(out)
}

/// Runs a command that has nothing to say unless it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{}: {}\n{}", shown(command), out.status, said.trim());
    }
    text(out)
}

/// Whether this process may do what the kernel reserves to root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Refuses to go on without root, naming what needs it and how to get it.
pub(crate) fn need_root(what: &str) -> Result<()> {
    ensure!(
        is_root(),
        "{what}: this needs root, to load BPF programs and to make network namespaces. Run it \
         again as root: `sudo -E env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask …`"
    );
    Ok(())
}

fn text(out: Output) -> Result<String> {
    Ok(String::from_utf8(out.stdout)
        .context("the output is not UTF-8")?
        .trim_end()
        .to_owned())
}

/// The command as a person would type it, without the environment.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}
