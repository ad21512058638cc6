//! What the server, its listeners and the session know together.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use rustix::net::SocketFlags;
use synflip_wire::{Cookie, Name, Refusal};

use crate::{
    loans::Loans,
    phase::Phase,
    socket::{Accepted, Bell, Socket},
};

/// Shared by the [`crate::Server`], each [`crate::Listener`] and the session's thread.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The same for tasks; rung after the lock is released.
    #[cfg(feature = "tokio")]
    changed_async: tokio::sync::watch::Sender<()>,
    /// Counts the events after which each accept loop has to look at its queue, whether the kernel
    /// has woken it or not. Read on every accept, hence not in the state.
    version: AtomicU64,
    /// Whether the phase is the last one.
    over: AtomicBool,
    /// Wakes the session.
    pub(crate) bell: Arc<Bell>,
    /// What other processes have left.
    pub(crate) loans: Loans,
}

/// Guarded by the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) readiness: Readiness,
    /// Threads in [`crate::Server::ready`].
    pub(crate) waiting: usize,
    /// Whether an agent has ever registered the listeners.
    pub(crate) steered: bool,
    /// Whether the agent is connected and knows the listeners.
    pub(crate) connected: bool,
    /// Whether the session is over.
    pub(crate) ended: bool,
    pub(crate) generation: Option<Name>,
    /// Empty once the session has taken them to close them.
    pub(crate) sockets: Vec<Socket>,
    /// Listener handles that are alive.
    pub(crate) listeners: usize,
    /// How many clients are being served, as far as the server has said.
    pub(crate) clients: u64,
    /// Whether the server handle is alive.
    pub(crate) server: bool,
}

impl State {
    /// The phase after `seen`: `None` while it has not come, `Some(None)` if there will not be one.
    pub(crate) fn phase_after(&self, seen: Phase) -> Option<Option<Phase>> {
        if self.phase != seen {
            Some(Some(self.phase))
        } else {
            (seen.is_last() || self.ended).then_some(None)
        }
    }
}

/// Whether the agent has been told that the server is ready.
#[derive(Debug)]
pub(crate) enum Readiness {
    No,
    /// To be said as soon as there is an agent.
    Wanted,
    /// Said on this connection; no answer yet.
    Said,
    Accepted,
    /// Refused, and the caller of `ready` has not been told yet.
    Refused(Refusal),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The generation is over and no listener is in use.
    Closed,
    /// Nobody is left, but the generation is not over: the agent keeps the listeners.
    Left,
}

/// The time is over.
#[derive(Debug)]
pub(crate) struct TimedOut;

impl Shared {
    pub(crate) fn new(sockets: Vec<Socket>, generation: Option<Name>) -> io::Result<Arc<Self>> {
        let bell = Arc::new(Bell::new()?);
        Ok(Arc::new(Self {
            loans: Loans::new(Arc::clone(&bell)),
            state: Mutex::new(State {
                phase: Phase::Plain,
                readiness: Readiness::No,
                waiting: 0,
                steered: false,
                connected: false,
                ended: false,
                generation,
                sockets,
                listeners: 0,
                clients: 0,
                server: true,
            }),
            changed: Condvar::new(),
            #[cfg(feature = "tokio")]
            changed_async: tokio::sync::watch::Sender::new(()),
            version: AtomicU64::new(0),
            over: AtomicBool::new(false),
            bell,
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all who wait for a change of it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        #[cfg(feature = "tokio")]
        self.changed_async.send_replace(());
        result
    }

    /// Enters a phase and makes each accept loop sweep its queue once.
    ///
    /// The sweep is for kernels that move connections to a listener without waking those that
    /// wait on it (CVE-2026-46015).
    pub(crate) fn enter(&self, phase: Phase) {
        let (before, bells) = self.update(|state| {
            if state.phase.is_last() {
                return (state.phase, Vec::new());
            }
            let before = std::mem::replace(&mut state.phase, phase);
            self.over.store(phase.is_last(), Ordering::Release);
            self.version.fetch_add(1, Ordering::Release);
            // Not the sockets: a clone would keep one open while the session closes them.
            let bells = state.sockets.iter().map(|socket| Arc::clone(&socket.bell));
            (before, bells.collect())
        });
        for bell in &bells {
            bell.ring();
        }
        self.bell.ring();
        if !before.is_last() && before != phase {
            log::info!("synflip: {before} -> {phase}");
        }
    }

    /// Takes one connection off what another process has left at the listener's address, or off
    /// the listener's own queue.
    ///
    /// # Errors
    /// Those of [`Socket::accept`].
    pub(crate) fn accept(&self, socket: &Socket, flags: SocketFlags) -> io::Result<Accepted> {
        match self.loans.accept(socket.address, flags) {
            Some(accepted) => Ok(accepted),
            None => socket.accept(flags),
        }
    }

    /// Whether there is something to accept; `accept(2)` does not tell while descriptors are short.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub(crate) fn has_queued(&self, socket: &Socket) -> io::Result<bool> {
        Ok(self.loans.has(socket.address) || socket.has_queued()?)
    }

    /// Lends another process's listener to the accept loops of its address; false, and it is
    /// closed, if nobody accepts there.
    pub(crate) fn lend(&self, address: SocketAddr, cookie: Cookie, listener: OwnedFd) -> bool {
        let is_its = |socket: &Socket| socket.address == address;
        if !self.lock().sockets.iter().any(is_its) {
            drop(listener);
            self.loans.decline(cookie);
            return false;
        }
        self.loans.add(cookie, address, listener);
        self.sweep();
        true
    }

    /// Makes each accept loop look at its queue once, whatever the kernel says of it.
    pub(crate) fn sweep(&self) {
        self.version.fetch_add(1, Ordering::Release);
        // Wakes the tasks that wait for a change.
        let bells: Vec<_> = self.update(|state| {
            // Not the sockets: a clone would keep one open while the session closes them.
            let bells = state.sockets.iter().map(|socket| Arc::clone(&socket.bell));
            bells.collect()
        });
        bells.iter().for_each(|bell| bell.ring());
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Waits for the phase after `seen`; none if there will not be one.
    pub(crate) fn wait_phase(
        &self,
        seen: Phase,
        deadline: Option<Instant>,
    ) -> Result<Option<Phase>, TimedOut> {
        let state = self.wait_while(deadline, |state| state.phase_after(seen).is_none())?;
        Ok(state.phase_after(seen).flatten())
    }

    /// Waits until the session is over.
    pub(crate) fn wait_end(&self) {
        // Without a deadline there is no timeout.
        drop(self.wait_while(None, |state| !state.ended));
    }

    /// Waits while the state is like that.
    pub(crate) fn wait_while(
        &self,
        deadline: Option<Instant>,
        still: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'_, State>, TimedOut> {
        let mut state = self.lock();
        while still(&state) {
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(TimedOut);
                    }
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(state)
    }

    /// Waits, as a task, until a change of the state has made it like that.
    #[cfg(feature = "tokio")]
    pub(crate) async fn until<R>(&self, mut like: impl FnMut() -> Option<R>) -> R {
        let mut changed = self.changed_async.subscribe();
        loop {
            if let Some(result) = like() {
                return result;
            }
            // The sender is in `self`: it outlives the receiver.
            drop(changed.changed().await);
        }
    }

    /// Whether the session has nobody to work for; if so, takes the sockets out of the state.
    pub(crate) fn end(&self) -> Option<(End, Vec<Socket>)> {
        let mut state = self.lock();
        if state.listeners > 0 {
            None
        } else if state.phase.is_last() {
            Some((End::Closed, std::mem::take(&mut state.sockets)))
        } else if !state.server {
            Some((End::Left, std::mem::take(&mut state.sockets)))
        } else {
            None
        }
    }
}
