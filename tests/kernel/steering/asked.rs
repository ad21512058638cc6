//! Promise: a listener that no table selects can be asked from one port of the endpoint's own
//! address, and from nowhere else.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZero,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{
    Family,
    raw::{self, RawClient, Reply},
    wait::{self, SOON},
};

use super::bench::{Bench, any};

#[test]
fn one_port_of_the_own_address_reaches_the_slot_that_is_asked() -> Result<()> {
    Family::both(|family| {
        let mut bench = Bench::new()?;
        let (working, address) = bench.listen(0, any(family))?;
        let new = bench.listen_beside(0, address, 1)?[0];
        // Also before anything is published.
        let ours = bench.reserve(address.ip())?;
        bench.steering.ask(0, new, ours.port)?;
        ensure!(ours.connect(&bench, address)? == new, "not without a table");
        bench.publish(&[&[working]])?;

        let ours = bench.reserve(address.ip())?;
        bench.steering.ask(0, new, ours.port)?;
        ensure!(ours.connect(&bench, address)? == new, "not with a table");
        // Other ports follow the table, and none of it is lost to the counters: a SYN that is sent
        // again is one more.
        ensure!(bench.connect(address, 20)?.keys().eq(&[working]), "others");
        let given = bench.given(&[working, new])?;
        let outcomes = bench.outcomes(0)?;
        ensure!(
            given.0 >= 22 && outcomes.selected == given.0,
            "{given:?}, {outcomes:?}"
        );

        // When nobody asks any more the port is one like any other.
        let again = bench.reserve(address.ip())?;
        bench.steering.ask(0, new, again.port)?;
        bench.steering.ask_no_more(0)?;
        ensure!(again.connect(&bench, address)? == working, "still asked");
        Ok(())
    })
}

#[test]
fn the_port_of_another_address_does_not() -> Result<()> {
    Family::both(|family| {
        let mut bench = Bench::new()?;
        let wire = RawClient::new(&bench.netns)?;
        let (working, to) = bench.listen(0, (raw::server(family), 0).into())?;
        let new = bench.listen_beside(0, to, 1)?[0];
        bench.publish(&[&[working]])?;
        let from = raw::client(family, 7, 5000);
        let port = NonZero::new(from.port()).context("a port")?;
        bench.steering.ask(0, new, port)?;
        let mut client = wire.syn(from, to)?;
        ensure!(client.recv_syn_ack(SOON)? == Reply::SynAck, "no SYN-ACK");
        client.ack()?;
        ensure!(bench.accept_one()? == working, "the one that is asked");
        ensure!(bench.given(&[new])? == (0, 0), "it was selected");
        Ok(())
    })
}

#[test]
fn an_empty_slot_is_not_asked() -> Result<()> {
    let mut bench = Bench::new()?;
    let (working, address) = bench.listen(0, any(Family::V4))?;
    bench.publish(&[&[working]])?;
    for slot in [working + 1, u32::from(u16::MAX)] {
        let ours = bench.reserve(address.ip())?;
        bench.steering.ask(0, slot, ours.port)?;
        ensure!(ours.connect(&bench, address)? == working, "slot {slot}");
    }
    Ok(())
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_can_ask() -> Result<()> {
    let mut bench = Bench::new()?;
    let (working, at) = bench.listen(0, "[::]:0".parse()?)?;
    let new = bench.listen_beside(0, at, 1)?[0];
    bench.publish(&[&[working]])?;
    for family in Family::BOTH {
        let to = SocketAddr::new(family.loopback(), at.port());
        let ours = bench.reserve(to.ip())?;
        bench.steering.ask(0, new, ours.port)?;
        ensure!(ours.connect(&bench, to)? == new, "{family:?}");
    }
    Ok(())
}

#[test]
fn who_asked_is_forgotten_with_the_agent() -> Result<()> {
    let mut bench = Bench::new()?;
    let (working, address) = bench.listen(0, any(Family::V4))?;
    let new = bench.listen_beside(0, address, 1)?[0];
    bench.publish(&[&[working]])?;
    let ours = bench.reserve(address.ip())?;
    bench.steering.ask(0, new, ours.port)?;
    let _next = bench.open_again()?;
    ensure!(ours.connect(&bench, address)? == working, "still asked");
    Ok(())
}

/// A client that is bound, and has not connected yet.
struct Bound {
    port: NonZero<u16>,
    socket: Socket,
}

impl Bound {
    /// Connects, and tells which slot's listener has accepted.
    fn connect(self, bench: &Bench, to: SocketAddr) -> Result<u32> {
        let Self { socket, .. } = self;
        // Its network namespace is the one that it was made in.
        let connecting = thread::spawn(move || {
            socket.connect(&to.into())?;
            Ok::<_, std::io::Error>(socket)
        });
        let slot = bench.accept_one()?;
        let client = connecting
            .join()
            .map_err(|_panic| anyhow::anyhow!("panicked"))??;
        // With a RST: no TIME_WAIT, and nothing that would run the program again.
        client.set_linger(Some(std::time::Duration::ZERO))?;
        drop(client);
        Ok(slot)
    }
}

impl Bench {
    /// Binds a client to any port of an address.
    fn reserve(&self, ip: IpAddr) -> Result<Bound> {
        let any = SocketAddr::new(ip, 0);
        let socket = self.netns.run(|| {
            let domain = Domain::for_address(any);
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&any.into())?;
            Ok::<_, std::io::Error>(socket)
        })?;
        let address = socket.local_addr()?.as_socket().context("no address")?;
        let port = NonZero::new(address.port()).context("no port")?;
        Ok(Bound { port, socket })
    }

    /// Accepts one connection.
    fn accept_one(&self) -> Result<u32> {
        let mut accepted = BTreeMap::new();
        wait::until("the connection is accepted", SOON, || {
            for (slot, (_, listener)) in &self.listeners {
                if let Ok((server, _)) = listener.accept() {
                    accepted.insert(*slot, server);
                }
            }
            !accepted.is_empty()
        })?;
        accepted.into_keys().next().context("none")
    }
}
