//! What is seen while a run goes on?
//!
//! One line that is rewritten if a person looks, otherwise a line for each thing that happens.

use std::{
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

/// Where a run is shown.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    shown: Option<Instant>,
}

impl Screen {
    /// Shows it on standard output, or on standard error if that is for the results.
    pub(crate) fn new(stdout_is_taken: bool) -> Self {
        let (out, terminal): (Box<dyn Write>, _) = if stdout_is_taken {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        Self {
            out,
            terminal,
            shown: None,
        }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(&format!("{text}\n"))
    }

    /// Text that stays.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.clear();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Something has happened: a line of its own, unless the state shows it.
    pub(crate) fn event(&mut self, text: &str) -> io::Result<()> {
        if self.terminal {
            return Ok(());
        }
        self.line(text)
    }

    /// How things stand, in place of what was said last; not more often than can be read.
    pub(crate) fn state(&mut self, text: impl FnOnce() -> String) -> io::Result<()> {
        let recent = |shown: Instant| shown.elapsed() < REFRESH;
        if !self.terminal || self.shown.is_some_and(recent) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        write!(self.out, "\r\x1b[K{}", text())?;
        self.out.flush()
    }

    /// Takes the state away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            // What follows fails too, and is the better place to notice it.
            drop(write!(self.out, "\r\x1b[K"));
            drop(self.out.flush());
        }
    }
}

const REFRESH: Duration = Duration::from_millis(100);
