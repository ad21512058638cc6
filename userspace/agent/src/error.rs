//! Why the agent cannot run, or what it could not do.

use std::{io, path::PathBuf};

use synflip_bpf::{BpfError, Privilege};
use synflip_plan::{HostError, PlanError};
use synflip_wire::{ErrorCode, Refusal};

/// A reason for the agent to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A privilege is missing.
    #[error(
        "the agent needs {missing}: run it as root, or give it the capability \
         (systemd: AmbientCapabilities={missing}; by hand: setpriv --ambient-caps)"
    )]
    Privilege {
        /// Which.
        missing: Privilege,
    },
    /// A task has ended that never should.
    #[error("a part of the agent has ended: {task}")]
    TaskEnded {
        /// Which, and how.
        task: String,
    },
    /// A service's thread has ended.
    #[error("{service}: the thread that works for it has ended")]
    ThreadEnded {
        /// The service.
        service: String,
    },
    /// The kernel refused something at the start.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The control socket could not be set up.
    #[error("{op} {path} failed")]
    Socket {
        /// What was tried.
        op: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another agent is there already.
    #[error(
        "another agent is running: it holds {path}; stop it first, or choose another --socket and --bpffs"
    )]
    AlreadyRunning {
        /// What it holds.
        path: PathBuf,
    },
    /// The kernel does not behave as the agent relies on.
    #[error(
        "this kernel does not keep a listener's reference count as the drain needs it: {found}"
    )]
    Assumption {
        /// What was found.
        found: String,
    },
    /// Anything else that the operating system refused.
    #[error("{op} failed")]
    Io {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl AgentError {
    pub(crate) fn io(op: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, source }
    }
}

/// Why a registration is not admitted, or a change not allowed, for the peer that asked.
pub(crate) fn not_admitted(error: &HostError) -> Refusal {
    let code = match error {
        HostError::NotOwner { .. } => ErrorCode::NotAllowed,
        HostError::TooManyServices { .. } | HostError::TooManyOfUid { .. } => {
            ErrorCode::LimitReached
        }
        _ => ErrorCode::BadListener,
    };
    Refusal::new(code, error.to_string())
}

/// The text of an error and of what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A kernel refusal, for the peer that asked.
pub(crate) fn kernel(error: &BpfError) -> Refusal {
    Refusal::new(ErrorCode::Kernel, chain(error))
}

/// A plan's refusal, for the peer that asked.
pub(crate) fn planned(service: &str, error: &PlanError) -> Refusal {
    let code = match error {
        PlanError::NoSuchGeneration { .. } => ErrorCode::NoSuchGeneration,
        PlanError::NotReady { .. }
        | PlanError::NoneReady
        | PlanError::NotAllAccept
        | PlanError::NobodyWorks => ErrorCode::NotReady,
        PlanError::AlreadyWorking { .. } => ErrorCode::AlreadyWorking,
        PlanError::FlipInProgress => ErrorCode::FlipInProgress,
        PlanError::EpochMoved { .. } => ErrorCode::EpochMoved,
        PlanError::EndpointMissing { .. } => ErrorCode::EndpointMissing,
        PlanError::NoPrevious => ErrorCode::NoPrevious,
        PlanError::StillWorking { .. } => ErrorCode::StillWorking,
        PlanError::StillDraining { .. } | PlanError::OthersThere { .. } => ErrorCode::StillDraining,
        PlanError::GenerationClosed { .. } => ErrorCode::GenerationClosed,
        PlanError::RegisteredAlready { .. } | PlanError::OfTwoGenerations { .. } => {
            ErrorCode::BadListener
        }
        PlanError::TooManyEndpoints
        | PlanError::TooManyListeners { .. }
        | PlanError::TooManyGenerations { .. } => ErrorCode::LimitReached,
        PlanError::Kernel { .. } => ErrorCode::Kernel,
        _ => ErrorCode::BadMessage,
    };
    Refusal::new(code, format!("{service}: {error}"))
}
