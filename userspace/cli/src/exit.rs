//! Exit codes: part of the contract with scripts.

use std::{path::PathBuf, process::ExitCode};

use crate::render;

/// How a command ended, if it did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// All of it.
    Fully,
    /// Committed, but the old generation has not drained.
    NotDrained,
}

/// There is no agent to ask.
#[derive(Debug)]
pub(crate) struct NoAgent {
    pub(crate) socket: PathBuf,
    pub(crate) source: std::io::Error,
}

impl std::fmt::Display for NoAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let socket = self.socket.display();
        match self.source.kind() {
            std::io::ErrorKind::PermissionDenied => write!(
                f,
                "this user may not use {socket}; run as root, or join the group of that socket"
            ),
            _ => write!(
                f,
                "no agent at {socket} ({}); start one with: synflip agent",
                self.source
            ),
        }
    }
}

impl std::error::Error for NoAgent {}

/// Reports an error and gives the process its exit code.
pub(crate) fn code(done: anyhow::Result<Done>) -> ExitCode {
    match done {
        Ok(Done::Fully) => ExitCode::SUCCESS,
        Ok(Done::NotDrained) => ExitCode::from(4),
        // Whoever reads the output has read enough.
        Err(error) if render::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            render::complain(&format!("synflip: {error:#}"));
            ExitCode::from(if error.is::<NoAgent>() { 3 } else { 1 })
        }
    }
}
