//! How does a run end that does not end well?

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::Result;

/// A failure that has an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something impossible.
    Usage(String),
    /// This host or user cannot do it.
    Cannot(String),
    /// A signal came.
    Interrupted(u8),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(text) | Self::Cannot(text) => f.write_str(text),
            Self::Interrupted(signal) => write!(f, "interrupted by signal {signal}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Reports what clap says: an error, or the help that was asked for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell if that fails.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Reports an error and gives the process its exit code.
pub(super) fn exit_code(program: &str, result: Result<bool>) -> ExitCode {
    let error = match result {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::FAILURE,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        // As if the signal had ended it: whoever reads the output has read enough.
        return ExitCode::from(128 + SIGPIPE);
    }
    drop(writeln!(io::stderr(), "{program}: {error:#}"));
    ExitCode::from(match error.downcast_ref() {
        Some(Failure::Usage(_) | Failure::Cannot(_)) => 2,
        Some(Failure::Interrupted(signal)) => 128 + signal,
        None => 1,
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

const SIGPIPE: u8 = 13;
