//! Whether a process that an earlier agent knew is still there.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt as _};

/// A process, so that no other one with its number is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number as this agent sees it; 0 if it cannot.
    pub(crate) pid: u32,
    /// The PID namespace in which it has that number: its inode.
    pub(crate) namespace: u32,
    /// When it started, in clock ticks since the system did.
    pub(crate) started: u64,
}

impl Process {
    /// One that nothing is known of.
    pub(crate) const UNKNOWN: Self = Self {
        pid: 0,
        namespace: 0,
        started: 0,
    };

    /// The process with this number now.
    pub(crate) fn of(pid: u32) -> Self {
        match (Self::read(pid), own_namespace()) {
            (Ok(Some(started)), Ok(namespace)) if pid != 0 => Self {
                pid,
                namespace,
                started,
            },
            _ => Self::UNKNOWN,
        }
    }

    /// Whether it has certainly ended. What is in another PID namespace cannot be seen, and counts
    /// as alive.
    pub(crate) fn has_ended(self) -> bool {
        self.pid != 0
            && own_namespace().is_ok_and(|own| own == self.namespace)
            && Self::read(self.pid).is_ok_and(|started| started != Some(self.started))
    }

    /// Whether its number is one of this agent's PID namespace.
    pub(crate) fn is_here(self) -> bool {
        self.pid != 0 && own_namespace().is_ok_and(|own| own == self.namespace)
    }

    /// When the process with this number started; none if there is none, or it has ended and
    /// waits for its parent.
    fn read(pid: u32) -> io::Result<Option<u64>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => parse(&stat).ok_or_else(|| io::Error::other("an unknown format")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It has ended while it was read.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Those of some sockets, by their inodes, of which any process but this one and the service manager
/// has a descriptor; none if some process cannot be looked at. The manager is process 1 or, if it is
/// a user's, this one's parent.
pub(crate) fn sockets_of_others(inodes: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
    let ours = [1, std::process::id(), std::os::unix::process::parent_id()];
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").ok()? {
        let name = entry.ok()?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid: &u32| !ours.contains(pid)) else {
            continue;
        };
        let all = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(all) => all,
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        let links = all.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let sockets = links.filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']')?.parse().ok()
        });
        found.extend(sockets.filter(|inode| inodes.contains(inode)));
    }
    Some(found)
}

/// The PID namespace of this process.
fn own_namespace() -> io::Result<u32> {
    let inode = fs::metadata("/proc/self/ns/pid")?.ino();
    u32::try_from(inode).map_err(io::Error::other)
}

/// The start time in `/proc/PID/stat` ([`do_task_stat`]): `Some(None)` if the process has ended and
/// waits for its parent, `None` if the text is not understood.
///
/// [`do_task_stat`]: https://elixir.bootlin.com/linux/v6.12/source/fs/proc/array.c
fn parse(stat: &str) -> Option<Option<u64>> {
    // A program's name may have anything in it.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((!matches!(state, "Z" | "X")).then_some(started))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio, id};

    use super::*;

    #[test]
    fn a_process_ends_once() {
        let own = Process::of(id());
        assert!(own.pid == id() && own.started > 0 && !own.has_ended());
        // Another one had the number before.
        let before = Process {
            started: own.started - 1,
            ..own
        };
        assert!(before.has_ended());
        // Nobody can say what became of one that was somewhere else.
        let elsewhere = Process {
            namespace: own.namespace - 1,
            ..before
        };
        assert!(!elsewhere.has_ended());

        // Waits for its input to end.
        let mut child = Command::new("cat");
        let child = child.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let process = Process::of(child.id());
        child.kill().unwrap();
        // Before and after it has been waited for.
        while !process.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.has_ended());
        assert!(!Process::of(0).has_ended(), "nothing is known of it");
    }

    #[test]
    fn a_socket_may_be_somebody_elses() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        let others = || sockets_of_others(&[inode].into());
        // Where some process cannot be looked at, nobody can say.
        if others().is_none() {
            return;
        }
        let mut child = Command::new("cat");
        let inherited = std::os::fd::OwnedFd::from(socket.try_clone().unwrap());
        let child = child.stdin(Stdio::piped()).stdout(inherited).spawn();
        let mut child = child.unwrap();
        assert_eq!(others(), Some([inode].into()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(others(), Some([].into()));
    }

    #[test]
    fn a_name_may_be_anything() {
        let rest = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 7777 1 1";
        assert_eq!(parse(&format!("9 (a) R b) S {rest}")), Some(Some(7777)));
        assert_eq!(parse(&format!("9 (a) Z {rest}")), Some(None));
        assert_eq!(parse("9 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }
}
