//! The control socket: who may connect, how much they may say, how the agent starts and stops.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    panic,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use synflip_bpf::{Looker, Privilege, prepare_bpffs, probe};
use synflip_wire::{ErrorCode, Refusal};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
};

use crate::{
    AgentError, Config,
    connection::{converse, refuse},
    error::chain,
    fault::Faults,
    fdstore, limits, metrics, peers,
    registry::{Message, Registry},
    relay::Relay,
    selftest,
};

/// The exit status after a panic, as Rust's own.
const PANICKED: i32 = 101;

/// Runs the agent until SIGTERM or SIGINT. Steering stays in the kernel when it ends.
///
/// Needs a single-threaded tokio runtime with IO and time enabled. What may block is done by other
/// threads.
///
/// # Errors
/// When it cannot start. Nothing that new connections follow has changed then.
pub async fn run(config: Config) -> Result<(), AgentError> {
    end_at_panic();
    for needed in [Privilege::Bpf, Privilege::NetAdmin] {
        if !needed.is_held() {
            return Err(AgentError::Privilege { missing: needed });
        }
    }
    raise_limits();
    prepare_bpffs(&config.bpffs)?;
    let _bpffs_lock = lock(&config.bpffs)?;
    let variant = config.variant(probe(&config.object)?.variant);
    let looker = Looker::open(&config.bpffs, &config.object);
    let facts = selftest::run(&config, variant, looker)?;
    facts.log();

    let (listener, _socket_lock) = listen(&config.socket)?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(AgentError::io("handling SIGTERM"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(AgentError::io("handling SIGINT"))?;
    let (messages, inbox) = mpsc::channel(limits::OUTBOX);
    let socket = config.socket.clone();
    let metrics = match config.metrics {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let migrates = facts.migration_wakes == Some(true);
    let (relay, keeping) = Relay::new(&socket);
    let figures = relay.figures();
    let looker = facts.looker.ok();
    let mut registry = Registry::new(config, variant, migrates, messages.clone(), relay, looker);
    let faults = registry.setting.faults.clone();
    registry.recover(fdstore::take_back())?;
    let mut registry = tokio::spawn(registry.run(inbox));
    let mut keeping = tokio::spawn(keeping);
    let mut metrics = tokio::spawn(metrics::serve(metrics, messages.clone(), figures));
    tracing::info!(socket = %socket.display(), pid = process::id(), "ready");
    // Without systemd this does nothing.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));

    let ended = tokio::select! {
        () = accept(listener, messages.clone(), faults) => Some("taking connections".to_owned()),
        ended = &mut registry => Some(format!("deciding: {}", how(ended))),
        ended = &mut metrics => Some(format!("metrics: {}", how(ended.map(Ok)))),
        ended = &mut keeping => Some(format!("keeping the relay: {}", how(ended.map(Ok)))),
        _ = terminate.recv() => { tracing::info!("SIGTERM"); None }
        _ = interrupt.recv() => { tracing::info!("SIGINT"); None }
    };
    if let Some(task) = ended {
        return Err(AgentError::TaskEnded { task });
    }
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    drop(messages.send(Message::Stop).await);
    let stopped = registry.await.map_err(|error| AgentError::TaskEnded {
        task: error.to_string(),
    })?;
    remove(&socket);
    stopped
}

/// How a task has ended that never should.
fn how(ended: Result<Result<(), AgentError>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "it has ended".into(),
        Ok(Err(error)) => chain(&error),
        Err(error) => error.to_string(),
    }
}

/// Has a panic, wherever it is, end the process: an agent of which a part has died is worse than
/// none, since steering goes on without it, and what systemd keeps is for the next one.
#[expect(
    clippy::exit,
    reason = "a process of which a part has panicked is to end"
)]
fn end_at_panic() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        say(info);
        tracing::error!("a panic: the agent ends");
        process::exit(PANICKED);
    }));
}

/// Takes connections for as long as the agent runs.
async fn accept(listener: UnixListener, messages: mpsc::Sender<Message>, faults: Faults) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; those in use must come back first.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(limits::PATIENCE / 100).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let text = format!("the agent has {} connections already", limits::CONNECTIONS);
            refuse(stream, Refusal::new(ErrorCode::LimitReached, text)).await;
            continue;
        };
        let (messages, faults) = (messages.clone(), faults.clone());
        tokio::spawn(async move {
            converse(stream, peers::new_id(), messages, faults).await;
            drop(place);
        });
    }
}

/// Opens the control socket, replacing one that a dead agent has left.
fn listen(path: &Path) -> Result<(UnixListener, File), AgentError> {
    let failed = |op| {
        move |source| AgentError::Socket {
            op,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("creating the directory of"))?;
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let file = File::create(&lock_path).map_err(failed("locking"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_held| {
        AgentError::AlreadyRunning {
            path: lock_path.clone(),
        }
    })?;
    remove(path);
    let listener = UnixListener::bind(path).map_err(failed("binding"))?;
    // The owner and the socket's group; an operator gives the group with chgrp or systemd.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed("restricting"))?;
    Ok((listener, file))
}

/// Keeps a second agent from the same pins.
fn lock(bpffs: &Path) -> Result<File, AgentError> {
    let dir = File::open(bpffs).map_err(AgentError::io("opening the BPF file system"))?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_held| AgentError::AlreadyRunning { path: bpffs.into() })?;
    Ok(dir)
}

fn remove(socket: &Path) {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{}: {error}", socket.display());
        }
        _ => {}
    }
}

/// Custody needs a descriptor per listener; kernels before 5.11 charge maps to locked memory.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    for (resource, limit) in [(Resource::Nofile, all), (Resource::Memlock, unlimited)] {
        if let Err(errno) = setrlimit(resource, limit) {
            tracing::debug!(?resource, "limit not raised: {errno}");
        }
    }
}
