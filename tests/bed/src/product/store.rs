//! Does custody outlive an agent? systemd's descriptor store, without systemd.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::fs::fstat;
use tempfile::TempDir;

use crate::{product::program, wait::SOON};

/// What the store sends to itself: all that came before it has been read then.
const BARRIER: &str = "BARRIER=1";
/// The last thing that it reads.
const END: &str = "END=1";

/// Keeps the descriptors that a service asks it to keep (`FDSTORE=1` of `sd_notify(3)`), and
/// passes them on when the service is started again.
///
/// As systemd does with `FileDescriptorStoreMax=`, it keeps one descriptor of a file, however
/// often that is sent, and lets go of all that have a name at once.
#[derive(Debug)]
pub struct Store {
    dir: TempDir,
    kept: Arc<Mutex<Vec<Kept>>>,
    barriers: Mutex<mpsc::Receiver<()>>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    fd: OwnedFd,
}

impl Store {
    /// Opens a store, which is a socket and a thread that reads from it.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for the store's socket")?;
        let socket = UnixDatagram::bind(path(&dir)).context("bind the store's socket")?;
        let kept = Arc::default();
        let (passed, barriers) = mpsc::channel();
        let reads = Reader {
            socket,
            kept: Arc::clone(&kept),
            passed,
        };
        thread::spawn(move || reads.run());
        Ok(Self {
            dir,
            kept,
            barriers: Mutex::new(barriers),
        })
    }

    /// The names of the descriptors that it keeps, in the order in which they came.
    ///
    /// # Errors
    ///
    /// When it no longer reads.
    pub fn names(&self) -> Result<Vec<String>> {
        let kept = self.up_to_date()?;
        Ok(kept.iter().map(|kept| kept.name.clone()).collect())
    }

    /// Closes all of them.
    ///
    /// # Errors
    ///
    /// When it no longer reads.
    pub fn clear(&self) -> Result<()> {
        self.up_to_date()?.clear();
        Ok(())
    }

    /// A command that runs a program as a service with this store, and the socket over which it
    /// waits for [`Self::pass_on`].
    pub(super) fn activate(&self, service: &Path) -> Result<(Command, UnixStream)> {
        let (to, from) = UnixStream::pair().context("make a pair of sockets")?;
        let mut command = Command::new(program("synflip-activate")?);
        command
            .arg(service)
            .env("NOTIFY_SOCKET", path(&self.dir))
            .env("LISTEN_FDNAMES", self.names()?.join(":"))
            .stdin(OwnedFd::from(from));
        Ok((command, to))
    }

    /// Passes duplicates of all that it keeps on.
    pub(super) fn pass_on(&self, to: &UnixStream) -> Result<()> {
        let kept = self.up_to_date()?;
        let fds: Vec<_> = kept.iter().map(|kept| kept.fd.as_fd()).collect();
        synflip_wire::send(to, b"\n", &fds).context("pass descriptors on")?;
        Ok(())
    }

    /// What it keeps once it has read all that it has been sent.
    fn up_to_date(&self) -> Result<MutexGuard<'_, Vec<Kept>>> {
        let barriers = self.barriers.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(BARRIER)?;
        barriers
            .recv_timeout(SOON)
            .context("the store does not read")?;
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, text: &str) -> Result<()> {
        let socket = UnixDatagram::unbound().context("make a socket")?;
        socket
            .send_to(text.as_bytes(), path(&self.dir))
            .context("write to the store")?;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Best effort: a test that fails must still show its own error.
        drop(self.send(END));
    }
}

/// The thread that reads: a service that notifies waits while the socket's queue is full.
struct Reader {
    socket: UnixDatagram,
    kept: Arc<Mutex<Vec<Kept>>>,
    passed: mpsc::Sender<()>,
}

impl Reader {
    fn run(self) {
        let mut buffer = [0; 4096];
        while let Ok(received) = synflip_wire::receive(&self.socket, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..received.bytes]);
            match text.as_ref() {
                END => return,
                // Who waits for it is gone only with the store.
                BARRIER => drop(self.passed.send(())),
                _ => self.take(&text, received.fds),
            }
        }
    }

    fn take(&self, text: &str, fds: Vec<OwnedFd>) {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let lines: HashMap<&str, &str> = lines.collect();
        let name = lines.get("FDNAME").copied().unwrap_or("stored");
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get("FDSTOREREMOVE") == Some(&"1") {
            kept.retain(|kept| kept.name != name);
        } else if lines.get("FDSTORE") == Some(&"1") {
            for fd in fds {
                if !kept.iter().any(|kept| same(&kept.fd, &fd)) {
                    let name = name.to_owned();
                    kept.push(Kept { name, fd });
                }
            }
        }
    }
}

/// Whether two descriptors are of one socket.
fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let inode = |fd: &OwnedFd| -> io::Result<_> { Ok(fstat(fd).map(|s| (s.st_dev, s.st_ino))?) };
    matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("notify")
}
