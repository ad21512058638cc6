//! The second serial port: one line per event, a keyword and the rest.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
};

use anyhow::{Context as _, Result};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

/// What is told; `xtask/src/vm/console.rs` reads it.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// A job starts.
    Start(&'a str),
    /// One line of what it prints.
    Say(&'a str),
    /// It has ended: how, and after how many milliseconds.
    End(&'a str, &'a str, u128),
    /// One line of the file that it was asked to write.
    Data(&'a str),
    /// This machine cannot do what it was told.
    Fatal(&'a str),
    /// Everything has been run.
    Done,
}

/// The port.
#[derive(Debug)]
pub(crate) struct Report(File);

impl Report {
    /// Opens the port, without the conversions of a terminal.
    pub(crate) fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/ttyS1")
            .context("open the second serial port, /dev/ttyS1")?;
        let mut settings = tcgetattr(&port).context("read the settings of /dev/ttyS1")?;
        settings.make_raw();
        tcsetattr(&port, OptionalActions::Now, &settings).context("set up /dev/ttyS1")?;
        Ok(Self(port))
    }

    /// A second handle on the port.
    pub(crate) fn another(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone().context("duplicate /dev/ttyS1")?))
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &Line<'_>) -> Result<()> {
        let text = match line {
            Line::Start(job) => format!("start {job}\n"),
            Line::Say(text) => format!("say {text}\n"),
            Line::End(job, how, ms) => format!("end {job} {how} {ms}\n"),
            Line::Data(text) => format!("data {text}\n"),
            Line::Fatal(error) => format!("fatal {}\n", error.replace('\n', "; ")),
            Line::Done => "done\n".to_owned(),
        };
        // In one call, so that lines of two handles do not mix.
        self.0
            .write_all(text.as_bytes())
            .context("write to /dev/ttyS1")
    }

    /// Waits until the last byte is out: power off would cut it off.
    pub(crate) fn close(self) -> Result<()> {
        tcdrain(&self.0).context("empty /dev/ttyS1")
    }
}
