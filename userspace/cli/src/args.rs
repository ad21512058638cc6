//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use synflip_agent::{Config, DieAt};
use synflip_bpf::DEFAULT_BPFFS;
use synflip_wire::{DEFAULT_SOCKET, Name, SOCKET_ENV};

/// Replaces the processes behind a listening address without losing a connection.
#[derive(Debug, Parser)]
#[command(name = "synflip", version, about, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent's control socket.
    #[arg(long, global = true, value_name = "PATH", env = SOCKET_ENV, default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  synflip agent                     run the agent (as root, or under systemd)
  synflip status                    what is registered, working, draining
  synflip flip --to gen2            new connections go to gen2; returns when gen1 is drained
  synflip flip --to latest --keep   the same, and gen1 stays open to go back to
  synflip rollback                  back to the generation that was working before

Exit codes: 0 done; 1 refused or failed, nothing changed; 2 usage; 3 no agent at the socket;
4 committed, but the old generation has not drained (the output says what is left).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent in the foreground; it logs to stderr.
    Agent(AgentArgs),
    /// Show services, generations and listeners.
    Status(StatusArgs),
    /// Send new connections to another generation, and wait until the old one has drained.
    Flip(FlipArgs),
    /// Flip to the generation that was working before.
    Rollback(RollbackArgs),
    /// Take the listeners of a running server that knows nothing of synflip.
    Adopt(AdoptArgs),
    /// Forget a generation that is not working; its servers are told to close.
    Retire(RetireArgs),
    /// Give a service back to plain SO_REUSEPORT; its servers go on, and are steered again when they
    /// are started anew.
    Release(ReleaseArgs),
    /// Say what this kernel and this user can do, and what is missing.
    Doctor(DoctorArgs),
    /// Carry connections for an agent, which starts this by itself; standard input is its socket.
    #[command(hide = true)]
    Relay,
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  synflip completions bash > /etc/bash_completion.d/synflip")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    /// The BPF file system to pin maps on; mounted if it is not there.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// Answer scrapes for metrics (OpenMetrics, as Prometheus reads it) on this address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// How long a service whose processes are all gone is held open for a successor.
    #[arg(long, value_name = "SECS", default_value_t = Config::HOLD_SECS)]
    pub(crate) hold: u64,
    /// Log as JSON, one object per line.
    #[arg(long)]
    pub(crate) log_json: bool,
    /// Another build of the BPF object, such as the one that `cargo xtask ebpf --log` makes.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) object: Option<PathBuf>,
    /// Close drained listeners even where that loses SYNs: for the test that shows why not to.
    #[arg(long, hide = true)]
    pub(crate) no_tombstones: bool,
    /// Do without migration, as kernels before 5.14 have to: for tests on a later one.
    #[arg(long, hide = true)]
    pub(crate) no_migration: bool,
    /// Die as if killed, the Nth time that a point is reached: for tests of what comes after.
    #[arg(long, value_name = "POINT[:N]", hide = true)]
    pub(crate) die_at: Option<DieAt>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Only this service.
    pub(crate) service: Option<Name>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second until interrupted.
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// Also show what happened, with times.
    #[arg(long, conflicts_with = "json")]
    pub(crate) timeline: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  synflip flip --to gen2\n  \
    synflip flip --service web --to latest --timeout 30 --json")]
pub(crate) struct FlipArgs {
    /// The generation to flip to; `latest` is the newest that is ready.
    #[arg(long, value_name = "GEN")]
    pub(crate) to: Name,
    /// Drop an endpoint that the new generation has no listener on: connections to it are refused
    /// once the old generation has closed its own. May be given several times.
    #[arg(long, value_name = "ADDR")]
    pub(crate) drop_endpoint: Vec<SocketAddr>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// The service; may be left out while there is only one.
    #[arg(long)]
    pub(crate) service: Option<Name>,
    /// How long to wait for the old generation to drain. A client that has gone away in the
    /// middle of its handshake is waited for up to 63 s.
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    pub(crate) timeout: u64,
    /// Return once the flip has committed; the agent goes on with the drain.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Keep the old generation open after it has drained, so that it can be rolled back to until
    /// it is retired.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server must have opened its listeners with SO_REUSEPORT. It is told nothing: stop it once a flip \
away from it has returned.

Example:
  synflip adopt --generation v1 --pid $(pidof -s server) --service web")]
pub(crate) struct AdoptArgs {
    /// The generation that it becomes, or becomes a process of.
    #[arg(long, value_name = "GEN")]
    pub(crate) generation: Name,
    /// The process.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// The service; may be left out while there is only one.
    #[arg(long)]
    pub(crate) service: Option<Name>,
    /// Only its listeners on this address; may be repeated. All of them if left out.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetireArgs {
    /// The generation.
    #[arg(long, value_name = "GEN")]
    pub(crate) generation: Name,
    /// The service; may be left out while there is only one.
    #[arg(long)]
    pub(crate) service: Option<Name>,
    /// Do so even while connections are pending on it: they are lost.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// The service.
    pub(crate) service: Name,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The BPF file system that the agent would use.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
