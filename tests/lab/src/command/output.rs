//! Where do the results go?

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Failure;

/// What `--json` names: a file, standard output if it is `-`, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Output(Option<PathBuf>);

impl Output {
    /// The argument of `--json`.
    pub(crate) const fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// Whether standard output is for the results, and nothing else.
    pub(crate) fn is_stdout(&self) -> bool {
        self.0.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Makes sure that results can be written: better now than at the end.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] with the file and the reason.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(path) = self.0.as_ref().filter(|_| !self.is_stdout()) else {
            return Ok(());
        };
        match File::options().create(true).append(true).open(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Usage(format!("--json {}: {error}", path.display())).into()),
        }
    }

    /// Writes the results, if anybody wants them.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(crate) fn write(&self, results: &impl Serialize) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(results).context("encode the results")?;
        text.push('\n');
        if self.is_stdout() {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            return Ok(stdout.flush()?);
        }
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}
