//! The program follows the published table, and nothing else: without an agent, listener by
//! listener.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use synflip_abi::{Member, MemberState};
use synflip_bpf::{BpfError, Object, Outcomes, Publisher, Steering, Variant, probe};
use synflip_plan::{Slot, Table};
use synflip_bed::{Family, Netns, wait};

#[path = "steering/counters.rs"]
mod counters;
#[path = "steering/pins.rs"]
mod pins;
#[path = "steering/shares.rs"]
mod shares;

const SOON: Duration = Duration::from_secs(60);

/// Connections that are open at one time.
const BATCH: usize = 50;

/// One service's maps and program, with listeners in its slots.
struct Bench {
    netns: Netns,
    steering: Steering,
    publisher: Publisher,
    listeners: BTreeMap<Slot, (SocketAddr, Socket)>,
    _pins: Pins,
}

impl Bench {
    fn new() -> Result<Self> {
        let pins = Pins::new()?;
        let (steering, publisher) =
            Steering::open(pins.0.join("service"), Object::default(), variant()?)?;
        let (netns, listeners) = (Netns::new()?, BTreeMap::new());
        Ok(Self {
            netns,
            steering,
            publisher,
            listeners,
            _pins: pins,
        })
    }

    /// Opens a listener in the first free slot, and puts the program on its group.
    fn listen(&mut self, endpoint: u32, address: SocketAddr) -> Result<(Slot, SocketAddr)> {
        let socket = self.netns.run(|| listener(address))?;
        let address = local(&socket)?;
        let taken = |slot: &Slot| self.listeners.contains_key(slot);
        let slot = (0..).find(|slot| !taken(slot)).context("a slot")?;
        let member = Member {
            cookie: socket.cookie()?,
            state: MemberState::Registered,
            endpoint,
            address,
            generation: 1,
            name: Member::name_bytes("gen1"),
            owner_uid: 0,
            left_at: 0,
            defer_accept: 0,
            pid: 0,
            pid_namespace: 0,
            started: 0,
        };
        self.steering.put(slot, &member, socket.as_fd())?;
        self.steering.attach(endpoint, socket.as_fd())?;
        self.listeners.insert(slot, (address, socket));
        Ok((slot, address))
    }

    /// As many more in the same group.
    fn listen_beside(
        &mut self,
        endpoint: u32,
        address: SocketAddr,
        count: usize,
    ) -> Result<Vec<Slot>> {
        (0..count)
            .map(|_| Ok(self.listen(endpoint, address)?.0))
            .collect()
    }

    /// Publishes a table: for each endpoint, its slots.
    fn publish(&mut self, endpoints: &[&[Slot]]) -> Result<(), BpfError> {
        let cookie = |slot: &Slot| self.listeners[slot].1.cookie().unwrap_or(0);
        let slots = endpoints.iter().flat_map(|slots| slots.iter());
        let members: Vec<_> = slots.map(|slot| (*slot, cookie(slot))).collect();
        let table = Table::new(endpoints.iter().copied());
        self.publisher.publish(table.words(), &members).map(drop)
    }

    /// Connects so often, and counts which listener accepted how many.
    fn connect(&self, to: SocketAddr, count: usize) -> Result<BTreeMap<Slot, usize>> {
        let mut accepted = BTreeMap::new();
        for batch in (0..count)
            .step_by(BATCH)
            .map(|done| (count - done).min(BATCH))
        {
            // Closed with a RST: of a slow orderly close, a segment may be repeated when its
            // socket is gone already, and would run the program.
            let connect = || -> Result<TcpStream> {
                let client = TcpStream::connect_timeout(&to, SOON).context("connect")?;
                SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
                Ok(client)
            };
            let clients = self
                .netns
                .run(|| (0..batch).map(|_| connect()).collect::<Result<Vec<_>>>())?;
            let mut servers = Vec::new();
            wait::until("all connections are accepted", SOON, || {
                for (slot, (_, listener)) in &self.listeners {
                    while let Ok((server, _)) = listener.accept() {
                        *accepted.entry(*slot).or_default() += 1;
                        servers.push(server);
                    }
                }
                servers.len() >= batch
            })?;
            drop(clients);
            // One that closes first would send a FIN, whose answer may run the program, too.
            for mut server in servers {
                server.set_read_timeout(Some(SOON))?;
                ensure!(server.read(&mut [0]).is_err(), "a client that is gone said");
            }
        }
        Ok(accepted)
    }

    fn outcomes(&self, endpoint: u32) -> Result<Outcomes> {
        let outcomes = self.steering.outcomes(endpoint)?;
        let Outcomes {
            runs,
            selected,
            migrated,
            no_table,
            fell_back,
        } = outcomes;
        ensure!(
            runs == selected + migrated + no_table + fell_back,
            "{outcomes:?}"
        );
        Ok(outcomes)
    }

    /// Sums of selected and retried over slots.
    fn given(&self, slots: &[Slot]) -> Result<(u64, u64)> {
        slots.iter().try_fold((0, 0), |(selected, retried), slot| {
            let given = self.steering.selections(*slot)?;
            Ok((selected + given.selected, retried + given.retried))
        })
    }
}

fn new_connections_follow_the_published_table() -> Result<()> {
    for family in Family::BOTH {
        let mut bench = Bench::new()?;
        let (first, address) = bench.listen(0, any(family))?;
        let old = [vec![first], bench.listen_beside(0, address, 3)?].concat();
        let new = bench.listen_beside(0, address, 3)?;
        let outsider = bench.listen_beside(0, address, 1)?;
        for round in 0..3 {
            for table in [&old, &new] {
                bench.publish(&[table])?;
                let accepted = bench.connect(address, 200)?;
                // Each of the table, and nobody else.
                ensure!(
                    accepted.keys().eq(table),
                    "{family:?}, round {round}: {accepted:?}"
                );
            }
        }
        let outcomes = bench.outcomes(0)?;
        ensure!(
            outcomes.runs == 1200 && outcomes.selected == 1200,
            "{outcomes:?}"
        );
        ensure!(bench.given(&old)? == (600, 0), "{:?}", bench.given(&old)?);
        ensure!(bench.given(&new)? == (600, 0), "{:?}", bench.given(&new)?);
        ensure!(
            bench.given(&outsider)? == (0, 0),
            "an outsider was selected"
        );
    }
    Ok(())
}

/// How a listener of the published table goes away.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Shutdown,
}

/// Ends the listeners whose bit is set, and looks where their share goes.
fn end_some(family: Family, how: End, size: usize, mask: u32) -> Result<()> {
    let mut bench = Bench::new()?;
    let (first, address) = bench.listen(0, any(family))?;
    let old = [vec![first], bench.listen_beside(0, address, 1)?].concat();
    let table = bench.listen_beside(0, address, size)?;
    bench.publish(&[&table])?;
    let some = |ended: bool| -> Vec<Slot> {
        let with_bits = (0..)
            .zip(&table)
            .filter(|(bit, _)| (mask >> bit & 1 == 1) == ended);
        with_bits.map(|(_, slot)| *slot).collect()
    };
    let (ended, left) = (some(true), some(false));
    for slot in &ended {
        match how {
            End::Close => drop(bench.listeners.remove(slot)),
            End::Shutdown => bench.listeners[slot].1.shutdown(std::net::Shutdown::Read)?,
        }
    }
    let accepted = bench.connect(address, 100)?;
    let strangers: Vec<_> = accepted
        .keys()
        .filter(|slot| !left.contains(slot))
        .collect();
    ensure!(
        strangers.is_empty(),
        "{strangers:?} of {old:?} beside {left:?}: {accepted:?}"
    );
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.selected == 100 && outcomes.fell_back == 0,
        "{outcomes:?}"
    );
    let (selected, retried) = bench.given(&left)?;
    ensure!(
        selected == 100 && retried > 0,
        "{selected} selected, {retried} retried"
    );
    Ok(())
}

fn the_share_of_listeners_that_end_goes_to_their_siblings() -> Result<()> {
    for mask in 1..15 {
        for (family, how) in [(Family::V4, End::Close), (Family::V6, End::Shutdown)] {
            end_some(family, how, 4, mask)
                .with_context(|| format!("{family:?}, {how:?}, {mask:04b}"))?;
        }
    }
    // One is left, the first, the last or another.
    for alive in [0, 7, 15] {
        for (family, how) in [(Family::V6, End::Close), (Family::V4, End::Shutdown)] {
            let mask = 0xffff & !(1 << alive);
            end_some(family, how, 16, mask)
                .with_context(|| format!("{family:?}, {how:?}, {alive}"))?;
        }
    }
    Ok(())
}

/// A directory for pins, removed when dropped.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Result<Self> {
        static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let bpffs = Path::new(synflip_bpf::DEFAULT_BPFFS);
        synflip_bpf::prepare_bpffs(bpffs)?;
        let dir = bpffs.join(format!("synflip-steering-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn variant() -> Result<Variant> {
    Ok(probe(&Object::default())?.variant)
}

fn any(family: Family) -> SocketAddr {
    let loopback: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, 0)
}

fn listener(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into()).context("bind")?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn local(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("no IP address")
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        new_connections_follow_the_published_table
        the_share_of_listeners_that_end_goes_to_their_siblings
    }
}
