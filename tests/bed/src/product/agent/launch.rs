//! How is an agent's process started?

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};

use crate::{
    Netns,
    product::{Store, program_of},
};

/// What differs from an ordinary agent.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More arguments of `synflip agent`.
    pub args: Vec<String>,
    /// Run it in this process's own namespace instead of the server's.
    pub outside: bool,
    /// Where it keeps descriptors that outlive it.
    pub store: Option<Arc<Store>>,
    /// Give it the only capabilities that it needs: CAP_BPF and CAP_NET_ADMIN.
    pub least_privilege: bool,
    /// Where its program is, its command line's and its servers', if they are another commit's.
    pub programs: Option<PathBuf>,
    /// Have it log the points that it could be killed at: see
    /// [`Agent::reached`](crate::product::Agent::reached).
    pub traced: bool,
}

/// The control socket of an agent that has this directory.
pub(super) fn socket(dir: &Path) -> PathBuf {
    dir.join("agent.sock")
}

/// Leaves this thread's children no capability but those that an agent needs.
fn drop_capabilities() -> io::Result<()> {
    let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
    for capability in CapabilitySet::all().difference(kept) {
        match remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it cannot give it either.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Starts an agent that keeps its socket and its log in a directory.
pub(super) fn launch(netns: &Netns, dir: &Path, bpffs: &Path, options: &Options) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let synflip = program_of(options.programs.as_deref(), "synflip")?;
    let (mut command, passing) = match &options.store {
        Some(store) => {
            let (command, to) = store.activate(&synflip)?;
            (command, Some((store, to)))
        }
        None => (Command::new(synflip), None),
    };
    if passing.is_none() {
        command.stdin(Stdio::null());
    }
    command
        .arg("agent")
        .arg("--bpffs")
        .arg(bpffs)
        .arg("--socket")
        .arg(socket(dir));
    command.args(&options.args);
    let log_level = if options.traced {
        "debug,synflip_agent::fault=trace"
    } else {
        "debug"
    };
    command
        .env("RUST_LOG", log_level)
        .stdout(Stdio::null())
        .stderr(log);
    let started: io::Result<Child> = if options.outside {
        command.spawn()
    } else {
        netns.run(|| {
            if options.least_privilege {
                // Before 5.11 maps count as locked memory; a unit has LimitMEMLOCK= for that. From
                // then on it does not matter whether it may be raised here.
                let unlimited = Rlimit {
                    current: None,
                    maximum: None,
                };
                setrlimit(Resource::Memlock, unlimited).unwrap_or_default();
                drop_capabilities()?;
            }
            command.spawn()
        })
    };
    let started = started.context("start the agent")?;
    if let Some((store, to)) = passing {
        store.pass_on(&to)?;
    }
    Ok(started)
}
