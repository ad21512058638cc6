//! The process: who connects to it, what it carries, when it ends.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, Type};
use synflip_types::Name;
use tokio::{
    net::{UnixListener, UnixStream},
    select,
    sync::{Notify, broadcast},
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Counts, Hello, LINGER, Line, Order, PLACES, Report, VERSION, copy, privileges, tally::Tally,
};

/// Least time between two reports of what has changed.
const PAUSE: Duration = Duration::from_millis(100);
/// Services in one report: it has to fit into a message.
const SERVICES: usize = 128;
/// Errors that may wait to be reported.
const FAILURES: usize = 64;
/// Descriptors that are needed besides those of the connections.
const SPARE: u64 = 64;
/// Descriptors that a connection is given: two, and as many again for orders that an agent had
/// sent when it died, which are taken whether there is a place or not.
const DESCRIPTORS: u64 = 4;

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// It was not started by an agent.
    #[error(
        "standard input is not the socket of a relay; the agent starts this process by itself, \
         when there is a connection to carry"
    )]
    NotAsked,
    /// A privilege or a descriptor could not be given up.
    #[error("{op} failed")]
    GiveUp {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The runtime could not be started.
    #[error("starting the runtime failed")]
    Runtime(#[source] io::Error),
}

/// Is the process: gives up all privileges, carries what it is given, and returns when that is
/// over.
///
/// Standard input has to be the listening socket that agents connect to. All other descriptors are
/// closed; to be called before anything is opened, and while there is one thread.
///
/// # Errors
/// When it cannot begin. Nothing has been accepted then.
pub fn run() -> Result<(), RelayError> {
    if !is_socket_of_a_relay() {
        return Err(RelayError::NotAsked);
    }
    let left = privileges::give_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RelayError::Runtime)?;
    let socket = left.close_stderr()?;
    runtime
        .block_on(LocalSet::new().run_until(serve(socket, places())))
        .map_err(RelayError::Runtime)
}

fn is_socket_of_a_relay() -> bool {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let socket = SockRef::from(&stdin);
    socket.r#type().is_ok_and(|kind| kind == Type::SEQPACKET)
        && socket.is_listener().unwrap_or(false)
}

/// Connections that there are descriptors for.
fn places() -> u64 {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    PLACES.min(descriptors.saturating_sub(SPARE) / DESCRIPTORS)
}

/// Serves agents until nothing is carried and no agent has been there for [`LINGER`].
async fn serve(socket: OwnedFd, places: u64) -> io::Result<()> {
    let listener: std::os::unix::net::UnixListener = socket.into();
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let carrier = Rc::new(Carrier {
        places,
        tally: Rc::new(Tally::new()),
        agents: Cell::new(0),
        idle: Notify::new(),
        failures: broadcast::Sender::new(FAILURES),
    });
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => carrier.attend(stream),
                // Out of memory or descriptors; those in use must come back first.
                Err(_) => sleep(PAUSE).await,
            },
            () = carrier.idle.notified() => {}
            // An agent that connects just now has not had the hello yet, so it has sent nothing.
            () = sleep(LINGER), if carrier.is_idle() => return Ok(()),
        }
    }
}

/// What all conversations share.
#[derive(Debug)]
struct Carrier {
    places: u64,
    tally: Rc<Tally>,
    /// Agents that are connected: one, or none, or the end of one beside the next.
    agents: Cell<u64>,
    /// Told when the last agent has gone, and when the last connection has ended.
    idle: Notify,
    failures: broadcast::Sender<Report>,
}

impl Carrier {
    fn is_idle(&self) -> bool {
        self.agents.get() == 0 && self.tally.open() == 0
    }

    fn attend(self: &Rc<Self>, stream: UnixStream) {
        self.agents.set(self.agents.get() + 1);
        let carrier = Rc::clone(self);
        spawn_local(async move {
            carrier.converse(&Line::new(stream)).await;
            carrier.agents.set(carrier.agents.get() - 1);
            carrier.idle.notify_one();
        });
    }

    /// Takes an agent's orders to the last one, and tells it what it carries.
    async fn converse(self: &Rc<Self>, line: &Line) {
        // A report that cannot be sent ends nothing: an agent that has died may have left orders.
        drop(line.send(&self.hello(), &[]));
        let mut taken = 0;
        let mut told = BTreeMap::new();
        let mut told_may_send = None;
        let mut failures = self.failures.subscribe();
        let mut changes = self.tally.subscribe();
        let (mut changed, mut next) = (true, Instant::now());
        loop {
            select! {
                order = line.receive() => match order {
                    Ok(Some((Order::Carry { service }, fds))) => {
                        taken += 1;
                        self.take(service, fds);
                    }
                    // No order, or one whose descriptors there is no room for; others may follow.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => taken += 1,
                    Ok(None) | Err(_) => return,
                },
                Ok(()) = changes.changed(), if !changed => changed = true,
                () = sleep_until(next), if changed => {
                    // What a full queue does not take is sent later, with what has changed by then.
                    changed = !self.report(line, taken, &mut told, &mut told_may_send);
                    next = Instant::now() + PAUSE;
                }
                Ok(failure) = failures.recv() => drop(line.send(&failure, &[])),
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            pid: std::process::id(),
            places: self.places,
        }
    }

    /// Sends what has changed; `false` if that was not possible.
    fn report(
        &self,
        line: &Line,
        taken: u64,
        told: &mut BTreeMap<Name, Counts>,
        told_may_send: &mut Option<u64>,
    ) -> bool {
        if !line.has_room().unwrap_or(false) {
            return false;
        }
        let may_send = taken + self.places.saturating_sub(self.tally.open());
        let news = self.tally.news(told);
        if news.is_empty() && *told_may_send == Some(may_send) {
            return true;
        }
        let mut chunks: Vec<_> = news.chunks(SERVICES).map(<[_]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        *told_may_send = Some(may_send);
        for services in chunks {
            let report = Report::State { may_send, services };
            if line.send(&report, &[]).is_err() {
                // All of it once more.
                told.clear();
                return false;
            }
        }
        true
    }

    fn take(self: &Rc<Self>, service: Name, fds: Vec<OwnedFd>) {
        let Ok([client, server]) = <[OwnedFd; 2]>::try_from(fds) else {
            return;
        };
        let open = self.tally.begin(&service);
        let carrier = Rc::clone(self);
        spawn_local(async move {
            let ended = copy::carry(client, server, &open).await;
            drop(open);
            carrier.idle.notify_one();
            if let Err(error) = ended {
                let why = error.to_string();
                // Without an agent nobody hears it.
                drop(carrier.failures.send(Report::Failed { service, why }));
            }
        });
    }
}
