//! Promise: descriptors that are no listeners which can be steered are refused, each with what is
//! wrong with it.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
};

use anyhow::{Context as _, Result};
use rustix::fs::{Uid, fchown};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{Netns, capability::needs};
use synflip_wire::{Client, ErrorCode};

use super::{
    talk::{accepted, leave, refusal, register, says},
    victim::Victim,
};

#[test]
fn what_is_no_listener_is_refused_with_the_reason() -> Result<()> {
    let victim = Victim::new()?;
    let netns = &victim.fixture.net.server;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mut client = Client::connect(&victim.fixture.agent.socket())?;
    let mut refused = |fd: OwnedFd, address: SocketAddr, words: &[&str]| -> Result<()> {
        let request = register("bad", None, &[address])?;
        let refusal = refusal(&mut client, &request, &[fd.as_fd()])?;
        says(&refusal, BAD, words)?;
        says(&refusal, BAD, &[&address.to_string()])
    };
    let file = File::open("/dev/null")?.into();
    refused(file, any, &["not a socket"])?;
    let udp = netns.run(|| UdpSocket::bind(any))?.into();
    refused(udp, any, &["not a TCP socket"])?;
    let dir = tempfile::tempdir()?;
    let unix = UnixListener::bind(dir.path().join("socket"))?.into();
    refused(unix, any, &["not a TCP socket"])?;
    let plain = netns.run(|| TcpListener::bind(any))?;
    let address = plain.local_addr()?;
    refused(
        plain.into(),
        address,
        &["lacks SO_REUSEPORT", "before bind()"],
    )?;
    let (idle, address) = bound(netns, any, |_| Ok(()))?;
    refused(idle.into(), address, &["not listening", "call listen()"])?;
    let (there, address) = listener(netns, any)?;
    let elsewhere = SocketAddr::new(address.ip(), address.port() ^ 1);
    refused(
        there.into(),
        elsewhere,
        &[&format!("is bound to {address}, not to this")],
    )?;
    let connected = netns.run(|| -> Result<TcpStream> {
        let server = TcpListener::bind(any)?;
        Ok(TcpStream::connect(server.local_addr()?)?)
    })?;
    let address = connected.local_addr()?;
    refused(connected.into(), address, &["not listening"])?;
    drop(client);
    victim.check_unharmed()
}

#[test]
fn mptcp_listeners_are_refused_with_the_cure() -> Result<()> {
    if !needs("mptcp") {
        return Ok(());
    }
    let victim = Victim::new()?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mptcp = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let socket = victim.fixture.net.server.run(mptcp)?;
    socket.set_reuse_port(true)?;
    socket.bind(&any.into())?;
    socket.listen(1)?;
    let address = local(&socket)?;
    let mut client = Client::connect(&victim.fixture.agent.socket())?;
    let request = register("bad", None, &[address])?;
    let refusal = refusal(&mut client, &request, &[socket.as_fd()])?;
    says(&refusal, BAD, &["MPTCP", "IPPROTO_TCP"])?;
    drop(client);
    victim.check_unharmed()
}

#[test]
fn what_differs_from_its_siblings_is_refused_with_the_difference() -> Result<()> {
    let victim = Victim::new()?;
    let netns = &victim.fixture.net.server;
    let agent = victim.fixture.agent.socket();
    let (first, address) = bound(netns, "[::]:0".parse()?, |s| s.set_only_v6(true))?;
    first.listen(1)?;
    let own = register("own", Some("a"), &[address])?;
    let mut owner = Client::connect(&agent)?;
    accepted(&mut owner, &own, &[&first])?;
    let mut client = Client::connect(&agent)?;
    let mut refused = |socket: &Socket, words: &[&str]| -> Result<()> {
        let refusal = refusal(&mut client, &own, &[socket.as_fd()]);
        says(&refusal.with_context(|| words[0].to_owned())?, BAD, words)
    };

    // Several processes of one generation may accept from one listener, but of no two.
    let stolen = register("own", Some("b"), &[address])?;
    let answer = refusal(&mut Client::connect(&agent)?, &stolen, &[first.as_fd()])?;
    says(&answer, BAD, &["registered already", "generation a"])?;
    let (both, _) = bound(netns, address, |s| s.set_only_v6(false))?;
    both.listen(1)?;
    refused(&both, &["IPV6_V6ONLY", "set both alike before bind()"])?;
    let (foreign, _) = bound(netns, address, |s| s.set_only_v6(true))?;
    foreign.listen(1)?;
    fchown(&foreign, Some(Uid::from_raw(1000)), None)?;
    refused(
        &foreign,
        &["uid 1000", "uid 0", "run both generations as one user"],
    )?;
    let there = Netns::new()?;
    let (outside, _) = bound(&there, address, |s| s.set_only_v6(true))?;
    outside.listen(1)?;
    refused(
        &outside,
        &[
            "another network namespace",
            "give the service there another name",
        ],
    )?;
    let (device, _) = bound(netns, address, |s| {
        s.set_only_v6(true)?;
        s.bind_device(Some(b"lo"))
    })?;
    device.listen(1)?;
    refused(&device, &["another device", "SO_BINDTODEVICE"])?;
    let twice = register("own", Some("b"), &[address, address])?;
    let (second, _) = bound(netns, address, |s| s.set_only_v6(true))?;
    second.listen(1)?;
    let fds = [second.as_fd(), second.as_fd()];
    says(&refusal(&mut client, &twice, &fds)?, BAD, &["came twice"])?;
    // What is alike is welcome, to the same client that was refused so often.
    accepted(&mut client, &own, &[&second])?;
    leave([owner, client])?;
    victim.check_unharmed()
}

/// A bound SO_REUSEPORT socket, and where.
fn bound(
    netns: &Netns,
    address: SocketAddr,
    with: impl Fn(&Socket) -> io::Result<()> + Sync,
) -> Result<(Socket, SocketAddr)> {
    netns.run(|| {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        with(&socket)?;
        socket.bind(&address.into()).context("bind")?;
        let address = local(&socket)?;
        Ok((socket, address))
    })
}

pub(super) fn listener(netns: &Netns, address: SocketAddr) -> Result<(Socket, SocketAddr)> {
    let (socket, address) = bound(netns, address, |_| Ok(()))?;
    socket.listen(16)?;
    Ok((socket, address))
}

fn local(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("no IP address")
}

const BAD: ErrorCode = ErrorCode::BadListener;
