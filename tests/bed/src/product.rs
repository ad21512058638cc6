//! The product itself as processes: an agent, generations of a server, the command line.
//!
//! Tests drive what operators drive: the built `synflip` and servers that link the helper crate.

mod agent;
mod ask;
mod generation;
mod operator;
mod pins;
mod running;
mod store;
mod version2;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Error, Result, ensure};

pub use agent::{Agent, Options};
pub use ask::{Cli, Drained, NOBODY};
pub use generation::{Exit, Generation, Spec, lines, name};
pub use operator::Operator;
pub use pins::Pins;
pub use running::Running;
pub use store::Store;
pub use version2::Version2;

/// A built program of this workspace.
///
/// In the directory that SYNFLIP_BIN_DIR names; without, cargo builds what is not up to date, so
/// that `cargo test` alone runs a test with the programs of the same sources.
///
/// # Errors
///
/// When it is not there, or does not build.
pub fn program(name: &str) -> Result<PathBuf> {
    program_of(None, name)
}

/// The same, of the programs in a directory, if they are not this workspace's.
fn program_of(dir: Option<&Path>, name: &str) -> Result<PathBuf> {
    let dir = dir.map_or_else(programs, |dir| Ok(dir.to_path_buf()))?;
    let path = dir.join(name);
    ensure!(path.is_file(), "no program {name} in {}", dir.display());
    Ok(path)
}

/// Where the programs of this workspace are.
fn programs() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match env::var_os("SYNFLIP_BIN_DIR") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => BUILT
            .get_or_init(|| build().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(Error::msg),
    }
}

/// Has cargo build all programs with the profile of the running one; returns where they are.
fn build() -> Result<PathBuf> {
    let own = env::current_exe().context("find the running program")?;
    let dir = own.parent().context("it is in no directory")?;
    // A test is in deps/, one below the programs.
    let dir = if dir.ends_with("deps") {
        dir.parent().context("deps/ is in no directory")?
    } else {
        dir
    };
    let target = dir.parent().context("the profile is in no directory")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--locked", "--bins"])
        .args(["-p", "synflip-cli", "-p", "synflip-bed"])
        .args(["-p", "synflip-lab", "-p", "synflip-hazard-server"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if dir.ends_with("release") {
        command.arg("--release");
    }
    let built = command.output().with_context(|| {
        format!("cannot build the programs with {command:?}; SYNFLIP_BIN_DIR names built ones")
    })?;
    ensure!(
        built.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(dir.to_owned())
}
