//! One connection, as far as it has come.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::Outcome;

pub(super) struct Connection {
    socket: Socket,
    pub(super) opened: Instant,
    /// Its own address, which a socket no longer tells once it is closed.
    pub(super) local: Option<SocketAddr>,
    id: [u8; 8],
    answer: [u8; ANSWER],
    received: usize,
    established: bool,
}

/// What an event has made of a connection.
pub(super) enum Step {
    /// It goes on.
    Pending,
    /// It is over.
    Done {
        outcome: Outcome,
        generation: u32,
        corrupt: bool,
    },
    /// It failed for a reason which is none of the server's.
    Broken(io::Error),
}

impl Connection {
    /// Starts the handshake.
    pub(super) fn open(to: SocketAddr, id: u64) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
        socket.set_linger(Some(Duration::ZERO))?;
        let opened = Instant::now();
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let id = id.to_le_bytes();
        let local = socket.local_addr()?.as_socket();
        Ok(Self {
            socket,
            opened,
            local,
            id,
            answer: [0; ANSWER],
            received: 0,
            established: false,
        })
    }

    /// Goes on after an event of the socket.
    pub(super) fn step(&mut self) -> Step {
        match self.advance() {
            Ok(step) => step,
            Err(error) => self.classify(error),
        }
    }

    /// What it is if its time is up now.
    pub(super) fn timed_out(&self) -> Outcome {
        if self.established {
            Outcome::Stalled
        } else {
            Outcome::ConnectTimeout
        }
    }

    fn advance(&mut self) -> io::Result<Step> {
        if !self.established {
            // Fails with ENOTCONN or EAGAIN until the handshake is complete; with
            // its error if it has failed.
            match (&self.socket).write(&self.id) {
                Ok(8) => self.established = true,
                Ok(_) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if would_wait(&error) => return Ok(Step::Pending),
                Err(error) => return Err(error),
            }
        }
        loop {
            match (&self.socket).read(&mut self.answer[self.received..]) {
                Ok(0) => return Ok(lost(Outcome::Reset, false)),
                Ok(length) => self.received += length,
                Err(error) if would_wait(&error) => return Ok(Step::Pending),
                Err(error) => return Err(error),
            }
            if self.received == ANSWER {
                return Ok(self.judge());
            }
        }
    }

    fn judge(&self) -> Step {
        let [a, b, c, d, e, f, g, h, g0, g1, g2, g3, zero @ ..] = self.answer;
        if [a, b, c, d, e, f, g, h] == self.id && zero == [0; 4] {
            let generation = u32::from_le_bytes([g0, g1, g2, g3]);
            Step::Done {
                outcome: Outcome::Ok,
                generation,
                corrupt: false,
            }
        } else {
            lost(Outcome::Reset, true)
        }
    }

    fn classify(&self, error: io::Error) -> Step {
        match error.kind() {
            ErrorKind::ConnectionRefused if !self.established => lost(Outcome::Refused, false),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                lost(Outcome::Reset, false)
            }
            // The kernel gave up before the deadline did.
            ErrorKind::TimedOut => lost(self.timed_out(), false),
            _ => Step::Broken(error),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lost(outcome: Outcome, corrupt: bool) -> Step {
    Step::Done {
        outcome,
        generation: 0,
        corrupt,
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}

const ANSWER: usize = 16;
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
