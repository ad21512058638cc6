//! The product itself as processes: an agent, generations of a server, the command line.
//!
//! Tests drive what operators drive: the built `synflip` and servers that link the helper crate.

mod agent;
mod ask;
mod generation;
mod operator;
mod running;
mod store;

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, bail};

pub use agent::{Agent, Options};
pub use ask::{Cli, Drained};
pub use generation::{Exit, Generation, Spec};
pub use operator::Operator;
pub use running::Running;
pub use store::Store;

/// A built program of this workspace.
///
/// In the directory that SYNFLIP_BIN_DIR names, or beside the running test or program.
///
/// # Errors
///
/// When it is not there, with the command that builds it.
pub fn program(name: &str) -> Result<PathBuf> {
    let mut places: Vec<PathBuf> = env::var_os("SYNFLIP_BIN_DIR")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let own = env::current_exe().context("find the running program")?;
    // A test is in deps/, one below the programs.
    places.extend(own.ancestors().skip(1).take(2).map(PathBuf::from));
    for place in &places {
        let path = place.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "no program {name} in {places:?}; build it with: cargo build --release --workspace --bins"
    )
}
