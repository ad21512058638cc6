//! The second serial port, over which the host hears what happens.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::OFlags,
    termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr},
};
use synflip_exchange::Event;

/// The port, for all threads.
#[derive(Debug)]
pub(crate) struct Port(Mutex<File>);

impl Port {
    /// Opens the port, without the conversions of a terminal.
    pub(crate) fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            // Of a service it would become the controlling terminal, to which systemctl talks.
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open("/dev/ttyS1")
            .context("open the second serial port, /dev/ttyS1")?;
        let mut settings = tcgetattr(&port).context("read the settings of /dev/ttyS1")?;
        settings.make_raw();
        tcsetattr(&port, OptionalActions::Now, &settings).context("set up /dev/ttyS1")?;
        Ok(Self(Mutex::new(port)))
    }

    /// Tells of an event.
    pub(crate) fn tell(&self, event: &Event) -> Result<()> {
        let line = event.to_line()?;
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(line.as_bytes())
            .context("write to /dev/ttyS1")
    }

    /// Waits until the last byte is out: power off would cut it off.
    pub(crate) fn close(self) -> Result<()> {
        let port = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        tcdrain(port).context("empty /dev/ttyS1")
    }
}
