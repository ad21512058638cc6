//! The conversation with the agent: one thread, asleep unless something happens.

use std::{
    io,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};
use synflip_wire::{
    Client, Endpoint, ErrorCode, Event, ListenerSpec, MAX_FDS, Message, Name, Refusal, Register,
    Reply, Request, RequestId, WireError,
};

use crate::{
    error::causes,
    phase::{Phase, after},
    shared::{End, Readiness, Shared},
    socket::{Socket, wait},
};

/// The first and the longest pause between two attempts to reach the agent.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// How long the agent may take to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// How long the agent may take to note that the listeners are closed; nothing depends on it.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the session's thread owns.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) service: Name,
    pub(crate) agent: PathBuf,
    client: Option<Client>,
    pause: Duration,
    retry_at: Instant,
    /// With which request of this conversation it has been said that the server is ready.
    ready: Option<RequestId>,
    /// How many clients the agent believes to be served.
    clients: u64,
    /// Whether the agent has given the listeners back: it is not asked again.
    released: bool,
    /// Whether it has been reported that the agent does not want this server.
    reported: bool,
}

/// Why a conversation could not begin or go on.
#[derive(Debug)]
pub(crate) enum Failure {
    Wire(WireError),
    Refused(Refusal),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Wire(error),
        }
    }
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, service: Name, agent: PathBuf) -> Self {
        Self {
            shared,
            service,
            agent,
            client: None,
            pause: RETRY[0],
            retry_at: Instant::now() + RETRY[0],
            ready: None,
            clients: 0,
            reported: false,
            released: false,
        }
    }

    /// Connects and registers the listeners.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        let mut client = Client::connect(&self.agent)?;
        let (sockets, mut generation) = {
            let state = self.shared.lock();
            (state.sockets.clone(), state.generation.clone())
        };
        for share in sockets.chunks(MAX_FDS) {
            generation = Some(self.register(&mut client, share, generation)?);
        }
        self.client = Some(client);
        self.ready = None;
        self.clients = 0;
        self.pause = RETRY[0];
        let first = self.shared.update(|state| {
            state.steered = true;
            state.connected = true;
            state.generation = generation;
            state.phase == Phase::Plain
        });
        if first {
            self.shared.enter(Phase::Registered);
        }
        Ok(())
    }

    /// Says why the server runs without its agent, and does not repeat it.
    pub(crate) fn report_plain(&mut self, error: &WireError) {
        self.reported = error.is_version();
        let is = if self.reported { "unusable" } else { "no" };
        log::warn!(
            "synflip: {is} agent at {} ({}): running as a plain SO_REUSEPORT server",
            self.agent.display(),
            causes(error),
        );
    }

    /// Registers up to `MAX_FDS` listeners; returns the generation's name.
    fn register(
        &mut self,
        client: &mut Client,
        sockets: &[Socket],
        generation: Option<Name>,
    ) -> Result<Name, Failure> {
        let spec = |socket: &Socket| ListenerSpec {
            endpoint: Endpoint::tcp(socket.address),
        };
        let request = Request::Register(Register {
            service: self.service.clone(),
            generation,
            listeners: sockets.iter().map(spec).collect(),
        });
        let fds: Vec<_> = sockets
            .iter()
            .map(|socket| socket.listener.as_fd())
            .collect();
        let id = client.send(&request, &fds)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = client.receive(Some(left))?;
            match message.reply {
                Reply::Registered { generation, .. } if message.id == Some(id) => {
                    return Ok(generation);
                }
                _ => self.handle(message)?,
            }
        }
    }

    /// Runs until nobody needs it any more.
    pub(crate) fn run(mut self) {
        let end = loop {
            if let Some(end) = self.shared.end() {
                break end;
            }
            let turn = match self.client.take() {
                Some(client) => self.converse(client),
                None => self.retry(),
            };
            if let Err(failure) = turn {
                self.disconnected(&failure);
            }
        };
        self.finish(end);
        self.shared.update(|state| {
            state.connected = false;
            state.ended = true;
        });
    }

    /// Reads what the agent has said, says what is to be said, and sleeps.
    fn converse(&mut self, mut client: Client) -> Result<(), Failure> {
        let ready = self.shared.update(|state| {
            let wanted = matches!(state.readiness, Readiness::Wanted);
            if wanted {
                state.readiness = Readiness::Said;
            }
            wanted
        });
        let said = if ready {
            let said = client.send(&Request::Ready, &[]);
            said.map(|id| self.ready = Some(id))
        } else {
            Ok(())
        };
        // Even if the agent has died: what it sent before can be read still, and may be a listener
        // with connections on it.
        self.listen(&mut client)?;
        said?;
        if self.released {
            return Ok(());
        }
        let clients = self.shared.lock().clients;
        if clients != self.clients {
            client.send(&Request::Serves { clients }, &[])?;
            self.clients = clients;
        }
        let cookies = self.shared.loans.ended();
        if !cookies.is_empty() {
            let said = client.send(&Request::Emptied { cookies }, &[]);
            if said.is_err() {
                self.listen(&mut client)?;
            }
            said?;
        }
        self.client = Some(client);
        self.sleep(None);
        Ok(())
    }

    /// Reads all that the agent has said.
    fn listen(&mut self, client: &mut Client) -> Result<(), Failure> {
        loop {
            match client.receive(Some(Duration::ZERO)) {
                Ok(message) => self.handle(message)?,
                Err(WireError::TimedOut) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Handles a message of the agent.
    fn handle(&mut self, Message { id, reply, fds }: Message) -> Result<(), Failure> {
        match reply {
            Reply::Done if id.is_some() && id == self.ready => self.accepted(),
            Reply::Refused(refusal) if id.is_some() && id == self.ready => self.refused(refusal)?,
            // Of an agent that is older than this: what it does not know it need not do.
            Reply::Refused(refusal) if refusal.code == ErrorCode::UnknownRequest => {
                log::debug!("synflip: {refusal}");
            }
            Reply::Refused(refusal) => return Err(Failure::Refused(refusal)),
            Reply::Queue { endpoint, cookie } => {
                for listener in fds {
                    if !self.shared.lend(endpoint.address(), cookie, listener) {
                        log::warn!("synflip: a queue of {endpoint} came, where nobody accepts");
                    }
                }
            }
            Reply::Event(Event::Released) => self.released(),
            Reply::Event(event) => match after(event) {
                Some(phase) => self.shared.enter(phase),
                None => log::debug!("synflip: ignored {event:?}"),
            },
            other => log::debug!("synflip: ignored {other:?}"),
        }
        Ok(())
    }

    /// Sleeps, and connects again when it is time to.
    fn retry(&mut self) -> Result<(), Failure> {
        let left = self.retry_at.saturating_duration_since(Instant::now());
        if self.shared.is_over() || self.released {
            // The generation is over, or nobody's: there is nothing to register any more.
            self.sleep(None);
        } else if left.is_zero() {
            self.connect()?;
            log::info!(
                "synflip: registered with the agent at {}",
                self.agent.display()
            );
        } else {
            self.sleep(Some(left));
        }
        Ok(())
    }

    /// Sleeps until the agent says something or the bell rings.
    fn sleep(&self, timeout: Option<Duration>) {
        let mut fds = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
        if let Some(client) = &self.client {
            fds.push(PollFd::new(client, PollFlags::IN));
        }
        match wait(&mut fds, timeout) {
            Ok(()) if fds[0].revents().is_empty() => {}
            Ok(()) => self.shared.bell.answer(),
            // Only for want of kernel memory: look around and try again.
            Err(_) => drop(self.shared.bell.wait(RETRY[0])),
        }
    }

    /// The agent has accepted that the server is ready.
    fn accepted(&mut self) {
        self.reported = false;
        // An event may have been faster.
        if self.shared.phase() == Phase::Registered {
            self.shared.enter(Phase::Ready);
        }
        self.shared
            .update(|state| state.readiness = Readiness::Accepted);
    }

    /// An operator has given the service back to plain SO_REUSEPORT.
    fn released(&mut self) {
        self.released = true;
        self.shared.update(|state| {
            (state.connected, state.steered) = (false, false);
        });
        self.shared.enter(Phase::Plain);
    }

    /// The agent has refused that the server is ready.
    fn refused(&self, refusal: Refusal) -> Result<(), Failure> {
        self.shared.update(|state| {
            if state.waiting > 0 {
                state.readiness = Readiness::Refused(refusal);
                Ok(())
            } else {
                // Nobody waits for this answer: this thread has repeated the request after it had
                // connected again, and tries once more.
                Err(Failure::Refused(refusal))
            }
        })
    }

    /// The conversation is over or did not begin: serve on, and try again after a pause.
    fn disconnected(&mut self, failure: &Failure) {
        let (was_connected, steered) = self.shared.update(|state| {
            if matches!(state.readiness, Readiness::Said | Readiness::Accepted) {
                state.readiness = Readiness::Wanted;
            }
            (std::mem::take(&mut state.connected), state.steered)
        });
        // Listeners that only the agent held are closed when it dies. The kernel may move what was
        // queued on them to this process's listeners without waking anybody, and some time after
        // the connection to the agent has ended: so the queues are looked at after each of the
        // first attempts to reconnect.
        if steered && self.pause < RETRY[1] {
            self.shared.sweep();
        }
        match failure {
            Failure::Wire(error) if error.is_version() => self.report_refusal(&causes(error)),
            Failure::Wire(error) if was_connected => {
                log::warn!("synflip: lost the agent ({error}); serving on, and reconnecting");
            }
            Failure::Wire(error) => log::debug!("synflip: no agent yet: {}", causes(error)),
            Failure::Refused(refusal) => self.report_refusal(&refusal.text),
        }
        self.retry_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY[1]);
    }

    /// The agent does not want this server: says so once, and tries again now and then.
    fn report_refusal(&mut self, why: &str) {
        self.pause = RETRY[1];
        if !std::mem::replace(&mut self.reported, true) {
            log::error!("synflip: the agent refused; serving on, and retrying: {why}");
        }
    }

    /// Closes the listeners, then says so.
    fn finish(&mut self, (end, sockets): (End, Vec<Socket>)) {
        self.shared.loans.clear();
        drop(sockets);
        let Some(mut client) = self.client.take().filter(|_| end == End::Closed) else {
            return;
        };
        let said = client
            .send(&Request::Closed, &[])
            .and_then(|id| client.answer(id, FAREWELL));
        if let Err(error) = said {
            // It sees that the connection ends, which means the same.
            log::debug!("synflip: the agent did not note the end: {error}");
        }
    }
}

/// Starts the session's thread.
pub(crate) fn spawn(session: Session) -> io::Result<()> {
    std::thread::Builder::new()
        .name("synflip".into())
        .spawn(move || session.run())
        .map(drop)
}
