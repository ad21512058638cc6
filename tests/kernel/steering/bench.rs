//! The program without an agent: maps, and listeners in their slots.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use synflip_abi::Member;
use synflip_bed::{
    Family, Netns,
    product::Pins,
    wait::{self, SOON},
};
use synflip_bpf::{BpfError, Object, Outcomes, Publisher, Steering, Variant, probe};
use synflip_plan::Table;

/// A slot as it is in a table.
type Slot = u32;

/// Connections that are open at one time.
const BATCH: usize = 50;

/// One service's maps and program, with listeners in its slots.
pub(super) struct Bench {
    pub(super) netns: Netns,
    pub(super) steering: Steering,
    pub(super) publisher: Publisher,
    pub(super) listeners: BTreeMap<Slot, (SocketAddr, Socket)>,
    pub(super) pins: Pins,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        let pins = Pins::new()?;
        let (steering, publisher) =
            Steering::open(pins.path().join("service"), Object::default(), variant()?)?;
        let (netns, listeners) = (Netns::new()?, BTreeMap::new());
        Ok(Self {
            netns,
            steering,
            publisher,
            listeners,
            pins,
        })
    }

    /// Opens the pins once more, as the next agent does.
    pub(super) fn open_again(&self) -> Result<(Steering, Publisher)> {
        let dir = self.steering.dir().to_owned();
        Ok(Steering::open(dir, Object::default(), variant()?)?)
    }

    /// Opens a listener in the first free slot, and puts the program on its group.
    pub(super) fn listen(
        &mut self,
        endpoint: u32,
        address: SocketAddr,
    ) -> Result<(Slot, SocketAddr)> {
        let socket = self.netns.run(|| listener(address))?;
        let address = local(&socket)?;
        let taken = |slot: &Slot| self.listeners.contains_key(slot);
        let slot = (0..).find(|slot| !taken(slot)).context("a slot")?;
        let member = Member {
            generation: 1,
            name: Member::name_bytes("gen1"),
            ..Member::registered(socket.cookie()?, endpoint, address)
        };
        self.steering.put(slot, &member, socket.as_fd())?;
        self.steering.attach(endpoint, socket.as_fd())?;
        self.listeners.insert(slot, (address, socket));
        Ok((slot, address))
    }

    /// As many more in the same group.
    pub(super) fn listen_beside(
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
    pub(super) fn publish(&mut self, endpoints: &[&[Slot]]) -> Result<(), BpfError> {
        let cookie = |slot: &Slot| self.listeners[slot].1.cookie().unwrap_or(0);
        let slots = endpoints.iter().flat_map(|slots| slots.iter());
        let members: Vec<_> = slots.map(|slot| (*slot, cookie(slot))).collect();
        let table = Table::new(endpoints.iter().copied());
        self.publisher.publish(&table.words(), &members).map(drop)
    }

    /// Connects so often, and counts which listener accepted how many.
    pub(super) fn connect(&self, to: SocketAddr, count: usize) -> Result<BTreeMap<Slot, usize>> {
        connect(&self.netns, &self.listeners, to, count)
    }

    pub(super) fn outcomes(&self, endpoint: u32) -> Result<Outcomes> {
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
    pub(super) fn given(&self, slots: &[Slot]) -> Result<(u64, u64)> {
        slots.iter().try_fold((0, 0), |(selected, retried), slot| {
            let given = self.steering.selections(*slot)?;
            Ok((selected + given.selected, retried + given.retried))
        })
    }
}

/// Connects so often, and counts which listener accepted how many.
pub(super) fn connect(
    netns: &Netns,
    listeners: &BTreeMap<Slot, (SocketAddr, Socket)>,
    to: SocketAddr,
    count: usize,
) -> Result<BTreeMap<Slot, usize>> {
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
        let clients = netns.run(|| (0..batch).map(|_| connect()).collect::<Result<Vec<_>>>())?;
        let mut servers = Vec::new();
        wait::until("all connections are accepted", SOON, || {
            for (slot, (_, listener)) in listeners {
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

/// The program that this kernel takes.
pub(super) fn variant() -> Result<Variant> {
    static FOUND: OnceLock<Variant> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let found = probe(&Object::default())?.variant;
    Ok(*FOUND.get_or_init(|| found))
}

/// Any port of the loopback.
pub(super) fn any(family: Family) -> SocketAddr {
    SocketAddr::new(family.loopback(), 0)
}

pub(super) fn listener(address: SocketAddr) -> Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into()).context("bind")?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn local(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("no IP address")
}
