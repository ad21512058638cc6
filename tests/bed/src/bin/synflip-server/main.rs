//! The server of the tests and the demonstration: answers which generation served a request.
//!
//! A client sends 8 bytes and gets 16: its own, the generation's number and zero, both as
//! little-endian u32. Then the connection is closed.

mod listeners;
mod serve;

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{ArgAction, Parser};
use synflip::Server;
use synflip_bed::ledger::Ledger;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use listeners::{Listener, plain, steered};
use serve::{Served, serve};

/// How long clients that were accepted may take to finish.
const LINGER: Duration = Duration::from_secs(30);

/// Answer which generation served a request.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Listeners on each address
    #[arg(long, default_value_t = 1)]
    listeners: usize,
    /// Leave IPv4 to others on IPv6 addresses
    #[arg(long)]
    only_v6: bool,
    /// Length of each accept queue
    #[arg(long, default_value_t = 4096)]
    backlog: i32,
    /// The generation's number, part of each answer
    #[arg(long, default_value_t = 0)]
    number: u32,
    /// The service to register with
    #[arg(long, default_value = "web")]
    service: String,
    /// The generation's name
    #[arg(long)]
    generation: Option<String>,
    /// The agent's socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Fail if there is no agent
    #[arg(long)]
    require_agent: bool,
    /// Do without synflip: close the listeners on SIGTERM or at the end of standard input
    #[arg(long, conflicts_with_all = ["generation", "socket", "require_agent", "never_ready"])]
    plain: bool,
    /// Register, but never say ready
    #[arg(long)]
    never_ready: bool,
    /// Accept nothing until SIGUSR1
    #[arg(long)]
    stop_accepting: bool,
    /// Whether to exit when drained, or to wait for SIGTERM with the listeners closed
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    exit_after_drain: bool,
    /// Keep an account in FILE of what was accepted and not answered
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let ledger = args.ledger.as_deref().map(Ledger::open).transpose()?;
    let served = Arc::new(Served::new(args.number, ledger.map(Arc::new)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut go_on = signal(SignalKind::user_defined1())?;
    let stop = watch::Sender::new(false);

    let (server, listeners) = if args.plain {
        stop_at_end_of_input(stop.clone());
        (None, plain(args)?)
    } else {
        let (server, listeners) = steered(args)?;
        (Some(server), listeners)
    };
    let addresses = listeners.iter().map(Listener::address);
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let mut events = server.as_ref().map(|server| server.events().into_tokio());

    let mut loops = JoinSet::new();
    let (held, holding) = watch::channel(args.stop_accepting);
    for listener in listeners {
        let (served, stop) = (Arc::clone(&served), stop.subscribe());
        let mut holding = holding.clone();
        loops.spawn(async move {
            // An error means that nobody can hold it any more.
            drop(holding.wait_for(|held| !held).await);
            serve(listener, &served, stop).await
        });
    }
    let ready = !args.never_ready;
    if let Some(server) = server.as_ref().filter(|_| ready) {
        server.ready().context("not ready")?;
    }
    say(&serde_json::json!({
        "ready": ready,
        "listeners": addresses.len(),
        "accepted": 0,
        "addresses": addresses,
        "generation": server.as_ref().and_then(Server::generation),
        "steered": server.as_ref().is_some_and(Server::is_steered),
    }))?;

    let mut stopping = stop.subscribe();
    loop {
        tokio::select! {
            end = loops.join_next() => match end {
                Some(end) => end??,
                None => break,
            },
            _ = go_on.recv() => drop(held.send_replace(false)),
            _ = terminate.recv() => stop_now(server.as_ref(), &stop),
            _ = stopping.wait_for(|stop| *stop), if *held.borrow() => drop(held.send_replace(false)),
            phase = next(&mut events) => match phase {
                // Held loops have to end too.
                Some(phase) if phase.is_last() => drop(held.send_replace(false)),
                Some(_) => {}
                None => events = None,
            },
        }
    }
    finish(args, server, &served, &mut terminate).await
}

/// Waits for the last connections, tells the agent, and exits.
async fn finish(
    args: &Args,
    server: Option<Server>,
    served: &Served,
    terminate: &mut Signal,
) -> Result<()> {
    if let Some(server) = server {
        server.closed().await;
    }
    drop(timeout(LINGER, served.all_closed()).await);
    if !args.exit_after_drain {
        terminate.recv().await;
    }
    say(&serde_json::json!({
        "exit": true,
        "accepted": served.accepted.load(Relaxed),
        "served": served.served.load(Relaxed),
    }))
}

fn stop_now(server: Option<&Server>, stop: &watch::Sender<bool>) {
    stop.send_replace(true);
    if let Some(server) = server {
        server.stop();
    }
}

/// On a thread of its own: standard input has no readiness to wait for.
fn stop_at_end_of_input(stop: watch::Sender<bool>) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while io::stdin().read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        stop.send_replace(true);
    });
}

async fn next(events: &mut Option<synflip::tokio::Events>) -> Option<synflip::Phase> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

fn say(line: &serde_json::Value) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
