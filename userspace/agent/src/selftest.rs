//! The agent's assumptions about this kernel, tried out on private sockets.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    fs::fstat,
};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_abi::{Member, MemberState};
use synflip_bpf::{BpfError, Looker, Steering, Variant, service_dir};
use synflip_plan::{Pending, Table};

use crate::{AgentError, Config, error::chain, queues::ListenTables, sys};

/// How long the kernel may take over something that it does at once.
const SOON: Duration = Duration::from_secs(2);

/// How the name of the pins begins; the process's number follows.
const PINS: &str = "selftest-";

/// What follows if there is no [`Facts::looker`].
pub(crate) const WITHOUT_LOOKER: &str = "what is pending is read from /proc/net/tcp, which takes \
                                         the longer the more connections this host has";

/// What was found.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Whether a closing listener's requests move to the published table's listeners.
    pub(crate) migration: bool,
    /// Whether a listener wakes up for a connection that has moved to it.
    pub(crate) migration_wakes: Option<bool>,
    /// What shows what is pending on listeners, or why it cannot be used.
    pub(crate) looker: Result<Arc<Looker>, String>,
}

impl Facts {
    pub(crate) fn log(&self) {
        tracing::info!(refcnt = "exact", migration = self.migration, "this kernel");
        if self.migration_wakes == Some(false) {
            tracing::warn!(
                "a listener does not wake up for a connection that has moved to it on this \
                 kernel; servers that use the helper look by themselves"
            );
        }
        if let Err(why) = &self.looker {
            tracing::warn!("no cheap looks: {why}; {WITHOUT_LOOKER}");
        }
    }
}

/// Tries out what the drain relies on, and what migration does.
///
/// # Errors
/// [`AgentError::Assumption`] if the reference count is not what it must be.
pub(crate) fn run(
    config: &Config,
    variant: Variant,
    looker: Result<Looker, BpfError>,
) -> Result<Facts, AgentError> {
    let own = service_dir(&config.bpffs, &format!("{PINS}{}", std::process::id()));
    reference_count(reader_of_table)?;
    let looker = looker.map_err(|error| chain(&error)).and_then(|looker| {
        let (steering, _) = Steering::open(own.clone(), config.object.clone(), variant)
            .map_err(|error| chain(&error))?;
        let tried = reference_count(|listener| reader_of_looker(&looker, &steering, listener));
        steering.unpin().map_err(|error| chain(&error))?;
        match tried {
            Ok(()) => Ok(Arc::new(looker)),
            Err(error) => Err(chain(&error)),
        }
    });
    let migration_wakes = match variant {
        Variant::Select => None,
        Variant::SelectOrMigrate => migration(config, variant, own)?,
    };
    Ok(Facts {
        looker,
        migration: migration_wakes.is_some(),
        migration_wakes,
    })
}

/// Whether these pins are those of a process that is trying things out now (`synflip doctor`).
pub(crate) fn is_under_way(pins: &str) -> bool {
    let process = pins.strip_prefix(PINS);
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

/// A private listener's count must go 1, 2, 1 as a connection is queued and accepted.
///
/// Where all connections are made from SYN cookies (`tcp_syncookies=2`) it stays 1, and the
/// queue's length alone tells.
fn reference_count<R: FnMut() -> io::Result<Option<Pending>>>(
    reader: impl FnOnce(&Socket) -> io::Result<R>,
) -> Result<(), AgentError> {
    let io = || AgentError::io("trying out a listener's reference count");
    let listener = listener(None).map_err(io())?;
    let mut read = reader(&listener).map_err(io())?;
    let mut pending = || read().map_err(io());
    let mut seen = vec![pending()?];
    let client = TcpStream::connect(address(&listener).map_err(io())?).map_err(io())?;
    wait_readable(&listener).map_err(io())?;
    seen.push(pending()?);
    drop(listener.accept().map_err(io())?);
    seen.push(pending()?);
    drop(client);
    let one = Some(Pending {
        refcnt: 1,
        queued: 0,
    });
    let two = Some(Pending {
        refcnt: 2,
        queued: 1,
    });
    let from_cookie = Some(Pending {
        refcnt: 1,
        queued: 1,
    });
    if seen == [one, two, one] || seen == [one, from_cookie, one] {
        Ok(())
    } else {
        let found = format!("expected 1, 2, 1 with one connection queued, found {seen:?}");
        Err(AgentError::Assumption { found })
    }
}

/// Reads what is pending on a listener from the kernel's table.
fn reader_of_table(
    listener: &Socket,
) -> io::Result<impl FnMut() -> io::Result<Option<Pending>> + use<>> {
    let inode = fstat(listener)?.st_ino;
    let mut tables = ListenTables::open(std::fs::File::open("/proc/self/ns/net")?.as_fd())?;
    Ok(move || {
        let lines = tables.read(false, &[inode])?;
        Ok(lines.first().map(|line| line.pending))
    })
}

/// Has the iterator show it.
fn reader_of_looker(
    looker: &Looker,
    steering: &Steering,
    listener: &Socket,
) -> io::Result<impl FnMut() -> io::Result<Option<Pending>> + use<>> {
    let cookie = listener.cookie()?;
    let listeners = looker.of_service(steering.dir());
    let mut listeners = listeners.map_err(io::Error::other)?;
    listeners.add(listener.as_fd()).map_err(io::Error::other)?;
    Ok(move || {
        let looks = listeners.look().map_err(io::Error::other)?;
        let own = looks
            .iter()
            .find(|looked| looked.cookie == cookie && looked.listens);
        Ok(own.map(|looked| Pending {
            refcnt: looked.refcnt,
            queued: looked.queued,
        }))
    })
}

/// Queues a connection on one private listener, closes it, and looks where it went: `None` if it
/// was lost, otherwise whether the other listener woke up.
fn migration(config: &Config, variant: Variant, dir: PathBuf) -> Result<Option<bool>, AgentError> {
    let (mut steering, mut publisher) = Steering::open(dir, config.object.clone(), variant)?;
    let result = (|| {
        let io = || AgentError::io("trying out migration");
        let old = listener(None).map_err(io())?;
        let new = listener(Some(address(&old).map_err(io())?)).map_err(io())?;
        let mut cookies = Vec::new();
        for (slot, socket) in (0..).zip([&old, &new]) {
            let cookie = socket.cookie().map_err(io())?;
            let member = Member {
                state: MemberState::Tombstone,
                name: Member::name_bytes("selftest"),
                ..Member::registered(cookie, 0, address(socket).map_err(io())?)
            };
            steering.put(slot, &member, socket.as_fd())?;
            cookies.push((slot, cookie));
        }
        steering.attach(0, old.as_fd())?;
        let table = |slot| Table::new([[slot].as_slice()]);
        publisher.publish(&table(0).words(), &cookies[..1])?;
        let client = TcpStream::connect(address(&old).map_err(io())?).map_err(io())?;
        wait_readable(&old).map_err(io())?;
        publisher.publish(&table(1).words(), &cookies[1..])?;

        let waiting = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| io()(e.into()))?;
        let interest = epoll::EventFlags::IN;
        epoll::add(&waiting, &new, epoll::EventData::new_u64(0), interest)
            .map_err(|e| io()(e.into()))?;
        drop(old);
        // Without a wake-up the listener is never put on the ready list, whatever its queue holds.
        let mut events = [epoll::Event {
            flags: interest,
            data: epoll::EventData::new_u64(0),
        }; 1];
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        let woken = epoll::wait(&waiting, events.as_mut_slice(), Some(&patience));
        let woken = woken.map_err(|e| io()(e.into()))? > 0;
        let moved = sys::accept_queue(new.as_fd()).map_err(io())? > 0;
        drop(client);
        Ok(moved.then_some(woken))
    })();
    steering.unpin()?;
    result
}

/// A private listener on the loopback device, in the reuseport group of another if one is given.
fn listener(group: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(
        &group
            .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
            .into(),
    )?;
    socket.listen(16)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("no address"))
}

fn wait_readable(socket: &Socket) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        let patience = Timespec::try_from(SOON).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience))? > 0 {
            return Ok(());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "a connection to 127.0.0.1 did not arrive; is the loopback device up?",
    ))
}
