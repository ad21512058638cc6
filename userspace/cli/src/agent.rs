//! `agent`: runs the daemon.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use synflip_agent::Config;
use synflip_bpf::Object;
use tracing_subscriber::EnvFilter;

use crate::{args::AgentArgs, exit::Done};

pub(crate) fn run(args: AgentArgs, socket: PathBuf) -> anyhow::Result<Done> {
    // RUST_LOG overrides the default level.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal());
    if args.log_json {
        log.json().init();
    } else {
        log.with_target(false).init();
    }
    let object = match &args.object {
        Some(path) => {
            let bytes = std::fs::read(path);
            Object::from_bytes(bytes.with_context(|| format!("reading {}", path.display()))?)
        }
        None => Object::default(),
    };
    let config = Config {
        socket,
        bpffs: args.bpffs,
        metrics: args.metrics,
        hold: Duration::from_secs(args.hold),
        object,
        tombstones: !args.no_tombstones,
        migration: !args.no_migration,
        die_at: args.die_at,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(synflip_agent::run(config));
    // What a peer has sent and takes long to close is not waited for.
    runtime.shutdown_background();
    ended?;
    Ok(Done::Fully)
}
