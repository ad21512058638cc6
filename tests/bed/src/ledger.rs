//! Which connections had a server accepted and not answered when it was killed?
//!
//! Those die with it, whatever anybody does, and no others may hide behind them. So it keeps an
//! account of them one by one, in a file that it maps: what it has stored there is there after a
//! SIGKILL. One process writes a ledger; another reads it when that one is dead.
//!
//! A kill between the kernel's giving a connection away and the note of it leaves none. Therefore
//! the server says before each attempt to accept that it is about to, and after it that it is
//! not: a dead server's ledger that says so is at most one connection short.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use anyhow::{Context as _, Result};

use crate::{load::monotonic_us, sys::SharedWords};

/// A ledger, for the process that writes it or the one that reads it.
#[derive(Debug)]
pub struct Ledger {
    words: SharedWords,
    /// Of the writer: the entries that are not in use.
    free: Mutex<Vec<usize>>,
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The connections that were accepted and not answered.
    pub unanswered: Vec<Unanswered>,
    /// Whether one more may have been accepted of which there is no note.
    pub accepting: bool,
    /// Accepted when the ledger was full, ever: of these it knows nothing.
    pub unnoted: u64,
}

/// A connection that was accepted and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Its client.
    pub client: SocketAddr,
    /// When it had been accepted, in microseconds of CLOCK_MONOTONIC.
    pub accepted_us: u64,
}

/// Takes the note of a connection out when it is dropped.
#[derive(Debug)]
pub struct Note {
    ledger: Arc<Ledger>,
    entry: usize,
}

impl Ledger {
    /// Makes an empty one.
    ///
    /// # Errors
    ///
    /// When the file cannot be made or mapped.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        let made = file.and_then(|file| {
            file.set_len((WORDS * size_of::<u64>()) as u64)?;
            Self::map(&file)
        });
        made.with_context(|| format!("make the ledger {}", path.display()))
    }

    /// Opens one to write to it; only one process may.
    ///
    /// # Errors
    ///
    /// When the file cannot be mapped, or is too short for a ledger.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let opened = file.and_then(|file| Self::map(&file));
        opened.with_context(|| format!("open the ledger {}", path.display()))
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(Self {
            words: SharedWords::map(file, WORDS)?,
            free: Mutex::new((0..ENTRIES).rev().collect()),
        })
    }

    /// Does what may take one connection from the kernel, and notes the one that it took.
    ///
    /// For one thread at a time. The note is none if nothing was taken, or if the ledger is full.
    pub fn accepting<T>(
        self: &Arc<Self>,
        attempt: impl FnOnce() -> T,
        client: impl FnOnce(&T) -> Option<SocketAddr>,
    ) -> (T, Option<Note>) {
        let accepting = &self.words.words()[ACCEPTING];
        accepting.store(1, Release);
        let result = attempt();
        let note = client(&result).and_then(|client| self.note(client));
        accepting.store(0, Release);
        (result, note)
    }

    fn note(self: &Arc<Self>, client: SocketAddr) -> Option<Note> {
        let Some(entry) = self.free().pop() else {
            self.words.words()[UNNOTED].fetch_add(1, Relaxed);
            return None;
        };
        let [accepted_us, high, low, port] = self.entry(entry);
        let (first, last) = halves(client.ip());
        high.store(first, Relaxed);
        low.store(last, Relaxed);
        port.store(client.port().into(), Relaxed);
        // Last, and after all of the rest: it makes the entry valid.
        accepted_us.store(monotonic_us(), Release);
        let ledger = Arc::clone(self);
        Some(Note { ledger, entry })
    }

    /// What it says; nothing may be writing to it.
    #[must_use]
    pub fn read(&self) -> Account {
        let words = self.words.words();
        Account {
            unanswered: (0..ENTRIES)
                .filter_map(|entry| self.unanswered(entry))
                .collect(),
            accepting: words[ACCEPTING].load(Acquire) != 0,
            unnoted: words[UNNOTED].load(Acquire),
        }
    }

    fn unanswered(&self, entry: usize) -> Option<Unanswered> {
        let [accepted_us, high, low, port] = self.entry(entry).map(|word| word.load(Acquire));
        let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        let port = u16::try_from(port).ok()?;
        (accepted_us != 0).then(|| Unanswered {
            client: (ip.to_canonical(), port).into(),
            accepted_us,
        })
    }

    fn entry(&self, entry: usize) -> [&AtomicU64; ENTRY] {
        let words = self.words.words();
        std::array::from_fn(|word| &words[HEADER + ENTRY * entry + word])
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.ledger.entry(self.entry)[0].store(0, Release);
        self.ledger.free().push(self.entry);
    }
}

/// An address as two words; IPv4 the way that an IPv6 socket shows it.
fn halves(ip: IpAddr) -> (u64, u64) {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let [a, b, c, d, e, f, g, h, last @ ..] = ip.octets();
    let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (first, u64::from_be_bytes(last))
}

/// Words of the header: whether the server is about to accept, and what did not fit.
const ACCEPTING: usize = 0;
const UNNOTED: usize = 1;
const HEADER: usize = 4;
/// Words of an entry: when, the address in two, the port.
const ENTRY: usize = 4;
/// More than a server of the tests ever has open. Pages that are never used take no memory.
const ENTRIES: usize = 1 << 15;
const WORDS: usize = HEADER + ENTRY * ENTRIES;

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (tempfile::TempDir, Ledger, Arc<Ledger>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let reader = Ledger::create(&path).unwrap();
        let writer = Arc::new(Ledger::open(&path).unwrap());
        (dir, reader, writer)
    }

    fn accept(writer: &Arc<Ledger>, client: &str) -> Option<Note> {
        let client: SocketAddr = client.parse().unwrap();
        writer.accepting(|| client, |client| Some(*client)).1
    }

    fn clients(reader: &Ledger) -> Vec<String> {
        let unanswered = reader.read().unanswered;
        unanswered
            .iter()
            .map(|one| one.client.to_string())
            .collect()
    }

    #[test]
    fn a_connection_is_in_it_from_accept_to_answer() {
        let (_dir, reader, writer) = pair();
        assert_eq!(reader.read(), Account::default());
        let before = monotonic_us();
        let first = accept(&writer, "10.0.0.1:5000").unwrap();
        let second = accept(&writer, "[fd00::1]:6000").unwrap();
        let third = accept(&writer, "[::ffff:10.0.0.2]:7000").unwrap();
        assert_eq!(
            clients(&reader),
            ["10.0.0.1:5000", "[fd00::1]:6000", "10.0.0.2:7000"]
        );
        let at = reader.read().unanswered[0].accepted_us;
        assert!((before..=monotonic_us()).contains(&at));
        drop(second);
        assert_eq!(clients(&reader), ["10.0.0.1:5000", "10.0.0.2:7000"]);
        drop((first, third));
        assert_eq!(reader.read(), Account::default());
    }

    #[test]
    fn an_attempt_shows_while_it_lasts() {
        let (_dir, reader, writer) = pair();
        let (during, note) = writer.accepting(|| reader.read().accepting, |_| None);
        assert!(during && note.is_none());
        assert_eq!(reader.read(), Account::default());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (_dir, reader, writer) = pair();
        let notes: Vec<_> = (0..ENTRIES)
            .map(|_| accept(&writer, "10.0.0.1:1").unwrap())
            .collect();
        assert!(accept(&writer, "10.0.0.1:2").is_none());
        assert_eq!(
            (reader.read().unanswered.len(), reader.read().unnoted),
            (ENTRIES, 1)
        );
        drop(notes);
        assert!(accept(&writer, "10.0.0.1:3").is_some());
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Ledger::open(file.path()).is_err());
    }
}
