//! Why a server could not start or become ready.

use std::{error, fmt, io, net::SocketAddr, path::PathBuf};

use synflip_wire::{InvalidName, Refusal, WireError};

/// Why a server could not start or become ready.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The service's or generation's name is not one.
    Name(InvalidName),
    /// A listener could not be opened, or is not one that can be steered.
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The system refused something that is not a listener.
    System {
        /// What was tried.
        op: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// No agent answered, and the server requires one ([`crate::Mode::Required`]).
    NoAgent {
        /// The agent's socket.
        socket: PathBuf,
        /// The cause.
        source: WireError,
    },
    /// The agent refused; its text names the thing, the cause and the cure.
    Refused(Refusal),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(_) => f.write_str("a name cannot be used"),
            // The kernel keeps the listeners of different users apart.
            Self::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: a socket of another user, or one without \
                     SO_REUSEPORT, is there; run all generations as one user (not DynamicUser=)"
                )
            }
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::System { op, .. } => write!(f, "{op} failed"),
            Self::NoAgent { socket, .. } => {
                write!(f, "cannot register with an agent at {}", socket.display())
            }
            Self::Refused(_) => f.write_str("the agent refused"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Name(source) => Some(source),
            Self::Listen { source, .. } | Self::System { source, .. } => Some(source),
            Self::NoAgent { source, .. } => Some(source),
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// An error with its causes on one line.
pub(crate) fn causes(error: &dyn error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
