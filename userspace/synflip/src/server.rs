//! The server's own handle.

use std::{sync::Arc, time::Instant};

use crate::{
    Builder, Error, Events, Listener, Phase,
    listener::User,
    session::ANSWER,
    shared::{Readiness, Shared, TimedOut},
};

/// One process's share of a generation: its listeners and its conversation with the agent.
///
/// Dropping it and all its [`Listener`]s ends the conversation. If the generation was over, the
/// agent is told that its listeners are closed; if not, the agent keeps them, and what is queued on
/// them is not lost.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

impl Server {
    /// Begins to describe a server of a service.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder::new(service.into())
    }

    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The listeners, in the order of the [`Builder`]'s calls, adopted ones last.
    ///
    /// Each call returns new handles to the same sockets; none once they are closed.
    pub fn listeners(&self) -> Vec<Listener> {
        let mut state = self.shared.lock();
        let sockets = state.sockets.clone();
        sockets
            .into_iter()
            .map(|socket| Listener {
                socket,
                user: User::count(&self.shared, &mut state.listeners),
            })
            .collect()
    }

    /// Says that the server accepts connections: its generation may be flipped to, and works at
    /// once if it is the service's first.
    ///
    /// Say it last, when all that a request needs is there. It waits for the agent's answer, for
    /// milliseconds. While no agent can be reached, it returns at once and the agent is told later;
    /// if it refuses then, the log says so. After a reconnection it is repeated without being asked
    /// for.
    ///
    /// # Errors
    /// [`Error::Refused`] with the agent's reason; it may be said again.
    pub fn ready(&self) -> Result<(), Error> {
        self.shared.update(|state| {
            state.waiting += 1;
            if matches!(state.readiness, Readiness::No | Readiness::Refused(_)) {
                state.readiness = Readiness::Wanted;
            }
        });
        self.shared.bell.ring();
        let deadline = Instant::now() + ANSWER;
        let answered = self.shared.wait_while(Some(deadline), |state| {
            let open = matches!(state.readiness, Readiness::Wanted | Readiness::Said);
            open && state.connected && !state.ended
        });
        let mut state = answered.unwrap_or_else(|TimedOut| {
            log::warn!("synflip: the agent has not answered yet whether it can be flipped to");
            self.shared.lock()
        });
        state.waiting -= 1;
        match &state.readiness {
            Readiness::Refused(refusal) => Err(Error::Refused(refusal.clone())),
            _ => Ok(()),
        }
    }

    /// What the generation is doing.
    ///
    /// While the agent cannot be reached, what it said last.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// Whether an agent has registered the listeners; if not, this is a plain SO_REUSEPORT server.
    ///
    /// Steering goes on in the kernel while the agent is away.
    pub fn is_steered(&self) -> bool {
        self.shared.lock().steered
    }

    /// The generation's name; none while the agent has yet to give one.
    pub fn generation(&self) -> Option<String> {
        self.shared.lock().generation.clone().map(String::from)
    }

    /// The phases from now on.
    pub fn events(&self) -> Events {
        Events {
            seen: self.phase(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Says how many clients this server serves: connections that it has accepted and not closed.
    /// When nothing is pending on a generation that serves some, it is told to say good-bye to
    /// them ([`Phase::Leaving`]) before it is told to close.
    ///
    /// Each change is a message to the agent: say it every second or so, and when none is left,
    /// rather than for each connection.
    pub fn serves(&self, clients: u64) {
        self.shared.lock().clients = clients;
        self.shared.bell.ring();
    }

    /// Ends the accept loops, as if the generation had been retired: for SIGTERM.
    ///
    /// What is queued and what comes is for the successor: where there is none yet, the agent holds
    /// the listeners open for it (`--hold`).
    ///
    /// What is queued is served or, after the listeners are closed, taken over by the agent.
    /// Without an agent, what arrives in between is refused.
    pub fn stop(&self) {
        self.shared.enter(Phase::Retired);
    }

    /// Waits until the generation is over, each [`Listener`] has been dropped, the sockets are
    /// closed and the agent has been told. Without listeners in use it does not wait for the end
    /// of the generation, but leaves it.
    pub fn join(self) {
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.wait_end();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().server = false;
        self.shared.bell.ring();
    }
}
